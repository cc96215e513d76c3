/* The clients of the benchmark: each connection asks, waits for the whole answer, and asks again.
 * usage: client closed PORT CONNECTIONS SECONDS HEADFILE BODYFILE
 *        client each   PORT CONNECTIONS SECONDS HEADFILE BODYFILE   (a new connection each time)
 *        client sse    PORT STREAMS SECONDS HEADFILE BODYFILE
 * HEADFILE holds the head without its empty line; where it holds `@@@@@@@@@@`, a number that grows
 * is written for each request. Prints one line of JSON: n, errors, seconds, p50_us, p99_us.
 * Compiled with WITH_TLS it speaks TLS 1.3, all peers alike: AES-128-GCM, X25519, no resumption, the
 * certificate is not checked. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifdef WITH_TLS
#include <openssl/ssl.h>
static SSL_CTX *context;
#else
typedef void SSL;
#endif

enum { LATER = -2 };  /* nothing to read yet */
typedef struct { int fd; SSL *ssl; long long asked; char head[65536]; long filled, left; int done; } conn;
static char *request, *mark; static long request_bytes, asked_total;
static double *times; static long count, room, errors;

static long long now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000LL + t.tv_nsec; }
static void note(double us) { if (count == room) times = realloc(times, (room = room ? room * 2 : 1 << 16) * sizeof *times); times[count++] = us; }
static int order(const void *a, const void *b) { double x = *(double *)a, y = *(double *)b; return (x > y) - (x < y); }
static char *whole(const char *name, long *bytes) {
  FILE *f = fopen(name, "rb"); if (!f) { perror(name); exit(2); }
  fseek(f, 0, SEEK_END); *bytes = ftell(f); rewind(f);
  char *b = malloc(*bytes + 1); if (fread(b, 1, *bytes, f) != (size_t)*bytes) exit(2); b[*bytes] = 0; fclose(f); return b;
}
#ifdef WITH_TLS
static void prepare(void) {
  context = SSL_CTX_new(TLS_client_method());
  if (!SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) || !SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256")
      || !SSL_CTX_set1_groups_list(context, "X25519")) exit(2);
  SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY); /* a session ticket is no answer: do not wait for one after it */
}
static void secure(conn *c) {
  c->ssl = SSL_new(context); SSL_set_fd(c->ssl, c->fd);
  if (SSL_connect(c->ssl) != 1) { fprintf(stderr, "no handshake\n"); exit(1); }
}
static ssize_t give(conn *c, const char *p, long n) { return SSL_write(c->ssl, p, n); }
static ssize_t take(conn *c, char *p, long n) {
  int r = SSL_read(c->ssl, p, n); return r <= 0 && SSL_get_error(c->ssl, r) == SSL_ERROR_WANT_READ ? LATER : r;
}
static void hang_up(conn *c) { SSL_shutdown(c->ssl); SSL_free(c->ssl); close(c->fd); }
#else
static void prepare(void) {}
static void secure(conn *c) { (void)c; }
static ssize_t give(conn *c, const char *p, long n) { return send(c->fd, p, n, MSG_NOSIGNAL); }
static ssize_t take(conn *c, char *p, long n) { return recv(c->fd, p, n, 0); }
static void hang_up(conn *c) { close(c->fd); }
#endif
static void ask(conn *c) {
  if (mark) { char number[24]; snprintf(number, sizeof number, "%010ld", ++asked_total % 10000000000L); memcpy(mark, number, 10); }
  c->filled = 0; c->left = -1;
  for (long sent = 0; sent < request_bytes; ) {
    ssize_t n = give(c, request + sent, request_bytes - sent);
    if (n <= 0) { errors++; return; }
    sent += n;
  }
}
static void dial(conn *c, int poller, int number, int port) {
  int f = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (connect(f, (void *)&a, sizeof a)) { perror("connect"); exit(1); }
  setsockopt(f, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); c->fd = f; secure(c);
  struct epoll_event e = {.events = EPOLLIN, .data.u32 = number}; epoll_ctl(poller, EPOLL_CTL_ADD, f, &e);
}
int main(int argc, char **args) {
  if (argc != 7) return 2;
  signal(SIGPIPE, SIG_IGN); prepare();
  int sse = !strcmp(args[1], "sse"), each = !strcmp(args[1], "each"), port = atoi(args[2]), n = atoi(args[3]); double seconds = atof(args[4]);
  long head_bytes, body_bytes; char *head = whole(args[5], &head_bytes), *body = whole(args[6], &body_bytes);
  request = malloc(head_bytes + body_bytes + 64);
  memcpy(request, head, head_bytes);
  request_bytes = head_bytes + sprintf(request + head_bytes, "Content-Length: %ld\r\n\r\n", body_bytes);
  mark = memmem(request, request_bytes, "@@@@@@@@@@", 10);
  memcpy(request + request_bytes, body, body_bytes); request_bytes += body_bytes;
  conn *all = calloc(n, sizeof *all); int poller = epoll_create1(0), open = n; static char bytes[262144];
  long long began = now(), end = began + (long long)(seconds * 1e9);
  for (int i = 0; i < n; i++) {
    all[i].asked = now(); dial(&all[i], poller, i, port);
    if (!each) all[i].asked = now();
    ask(&all[i]);
    if (sse) usleep(40000 / n);
  }
  struct epoll_event ready[256];
  while (open > 0 && now() < end + (sse ? 20000000000LL : 0)) {
    int k = epoll_wait(poller, ready, 256, 100);
    for (int i = 0; i < k; i++) {
      conn *c = &all[ready[i].data.u32];
      ssize_t r = take(c, bytes, sizeof bytes - 1); long long t = now();
      if (r == LATER) continue;
      if (r <= 0) { if (!c->done) errors++; open--; epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, 0); hang_up(c); continue; }
      if (sse) {
        bytes[r] = 0;
        for (char *p = bytes, *q; (q = memmem(p, bytes + r - p, "T=", 2)); p = q + 2) note((t - atoll(q + 2)) / 1e3);
        if (memmem(bytes, r, "[DONE]", 6)) { c->done = 1; open--; epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, 0); hang_up(c); }
        continue;
      }
      if (c->left < 0) {
        long room_left = sizeof c->head - 1 - c->filled, kept = r < room_left ? r : room_left, beyond = r - kept;
        memcpy(c->head + c->filled, bytes, kept); c->filled += kept; c->head[c->filled] = 0;
        char *stop = memmem(c->head, c->filled, "\r\n\r\n", 4); if (!stop) continue;
        *stop = 0; char *length = strcasestr(c->head, "content-length:");
        if (strncmp(c->head + 9, "200", 3) || !length) errors++;
        long got = c->filled + beyond - (stop + 4 - c->head); c->left = (length ? atol(length + 15) : 0) - got; r = 0;
      }
      c->left -= r;
      if (c->left > 0) continue;
      note((t - c->asked) / 1e3);
      if (t >= end) { c->done = 1; open--; continue; }
      if (each) hang_up(c);
      c->asked = now();
      if (each) dial(c, poller, ready[i].data.u32, port);
      ask(c);
    }
  }
  qsort(times, count, sizeof *times, order);
  printf("{\"n\": %ld, \"errors\": %ld, \"seconds\": %.4f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", count, errors,
         (now() - began) / 1e9, count ? times[count / 2] : 0, count ? times[(long)(count * 0.99)] : 0);
  return 0;
}
