// Calls a router with @grpc/grpc-js, and tells as JSON what came back; see test_interop.py.
// Usage: node grpc_js.cjs HOST:PORT REQUEST-IN-HEX LARGE-REQUEST-IN-HEX
"use strict";
const grpc = require("@grpc/grpc-js");
const [, , address, hex, large] = process.argv;
const same = (buffer) => buffer;
const method = (name, streams) => ({
  path: `/inference.GRPCInferenceService/${name}`,
  requestStream: streams,
  responseStream: streams,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
});
const Client = grpc.makeGenericClientConstructor(
  {
    ServerLive: method("ServerLive", false),
    ModelInfer: method("ModelInfer", false),
    ModelStreamInfer: method("ModelStreamInfer", true),
    RepositoryIndex: method("RepositoryIndex", false),
  },
  "inference.GRPCInferenceService",
);
const GZIP = grpc.compressionAlgorithms.gzip;
const client = new Client(address, grpc.credentials.createInsecure());
const packed = new Client(address, grpc.credentials.createInsecure(), {
  "grpc.default_compression_algorithm": GZIP,
});
const body = Buffer.from(hex, "hex");

function unary(from, name, message, options = {}, cancel = false) {
  return new Promise((resolve) => {
    const told = { code: 0 };
    const metadata = new grpc.Metadata();
    metadata.set("x-request-id", "js-1");
    const call = from[name](message, metadata, options, (error, answer) => {
      told.code = error ? error.code : 0;
      told.bytes = answer ? answer.length : 0;
    });
    call.on("metadata", (m) => (told.cluster = m.get("x-fed-cluster")[0]));
    call.on("status", () => setImmediate(() => resolve(told)));
    if (cancel) setTimeout(() => call.cancel(), 100);
  });
}

function stream(count) {
  return new Promise((resolve) => {
    const call = client.ModelStreamInfer();
    const told = { messages: 0, code: 0 };
    call.on("data", () => (told.messages += 1));
    call.on("error", (error) => (told.code = error.code));
    call.on("status", () => setImmediate(() => resolve(told)));
    for (let i = 0; i < count; i++) call.write(body);
    call.end();
  });
}

async function main() {
  const told = {};
  told.live = await unary(client, "ServerLive", Buffer.alloc(0));
  told.infer = await unary(client, "ModelInfer", body);
  told.nothing = await unary(client, "ModelInfer", Buffer.alloc(0));
  told.packed = await unary(packed, "ModelInfer", body);
  told.unknown = await unary(client, "RepositoryIndex", Buffer.alloc(0));
  const many = await Promise.all(Array.from({ length: 300 }, () => unary(client, "ModelInfer", body)));
  told.many = many.filter((one) => one.code === 0 && one.bytes === told.infer.bytes).length;
  told.stream = await stream(20);
  const big = Buffer.concat([Buffer.from(large, "hex"), Buffer.alloc(3 * 1024 * 1024)]);
  told.large = await unary(client, "ModelInfer", big);
  console.log(JSON.stringify(told));
  process.stdin.once("data", async () => {
    const late = {};
    late.deadline = await unary(client, "ModelInfer", body, { deadline: Date.now() + 200 });
    late.cancelled = await unary(client, "ModelInfer", body, {}, true);
    console.log(JSON.stringify(late));
    client.close();
    packed.close();
    process.exit(0);
  });
}
main();
