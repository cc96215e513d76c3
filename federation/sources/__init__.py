"""Where `fed model push` takes packages from: directories, buckets, hubs and registries."""
