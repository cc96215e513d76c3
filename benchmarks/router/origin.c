/* The engine of the benchmark: one thread, several ports, answers as cheaply as sockets allow.
 * A path with /big gets 1 MiB; one with generate_stream gets EVENTS server-sent events, one each
 * MS milliseconds, which carry the time they were sent at; everything else a small JSON answer.
 * usage: origin EVENTS MS PORT [PORT...] */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
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

enum { HEAD = 16384, BIG = 1 << 20 };
typedef struct conn {
  int fd, listener, filled, in_chunks, line_used;
  long long left, chunk;      /* of the body; of the chunk: -1 its size line comes, -2 the end */
  char head[HEAD], path[256];
  const char *out; long out_left;
  int events; long long next; struct conn *before, *after; int streaming;
} conn;

static int poller, events, every_ms;
static conn *streams;
static char small[1024], *big;
static int small_bytes; static long big_bytes;

static long long now(void) {
  struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000LL + t.tv_nsec;
}
static void watch(conn *c, int what, int how) {
  struct epoll_event e = {.events = what, .data.ptr = c}; epoll_ctl(poller, how, c->fd, &e);
}
static void unstream(conn *c) {
  if (!c->streaming) return;
  if (c->before) c->before->after = c->after; else streams = c->after;
  if (c->after) c->after->before = c->before;
  c->streaming = 0;
}
static void drop(conn *c) { unstream(c); close(c->fd); free(c); }
static int flush(conn *c) {
  while (c->out_left) {
    ssize_t n = send(c->fd, c->out, c->out_left, MSG_NOSIGNAL);
    if (n < 0) { if (errno != EAGAIN) return -1; watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD); return 0; }
    c->out += n; c->out_left -= n;
  }
  return 0;
}
static int say(conn *c, const char *bytes, long count) { c->out = bytes; c->out_left = count; return flush(c); }
static int event(conn *c) {
  char data[160], frame[224]; int n, m;
  if (c->events < events) n = snprintf(data, sizeof data, "data: {\"text_output\": \"T=%lld;\"}\n\n", now());
  else n = snprintf(data, sizeof data, "data: [DONE]\n\n");
  m = snprintf(frame, sizeof frame, "%x\r\n%s\r\n%s", n, data, c->events < events ? "" : "0\r\n\r\n");
  if (c->events++ >= events) unstream(c);
  c->next += every_ms * 1000000LL;
  return send(c->fd, frame, m, MSG_NOSIGNAL) == m ? 0 : -1;
}
static int answer(conn *c) {
  if (strstr(c->path, "/big")) return say(c, big, big_bytes);
  if (!strstr(c->path, "generate_stream")) return say(c, small, small_bytes);
  static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nx-fed-load: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
  if (send(c->fd, head, sizeof head - 1, MSG_NOSIGNAL) < 0) return -1;
  c->streaming = 1; c->events = 0; c->next = now() + every_ms * 1000000LL;
  c->before = 0; c->after = streams; if (streams) streams->before = c; streams = c;
  return 0;
}
static const char *field(const char *head, const char *name) {
  for (const char *p = head; (p = strchr(p, '\n')); ) if (!strncasecmp(++p, name, strlen(name))) return p + strlen(name);
  return 0;
}
/* Use up bytes of a body; returns how many, and sets `done` at its end. */
static long body(conn *c, const char *p, long n, int *done) {
  long used = 0;
  if (!c->in_chunks) { used = n < c->left ? n : c->left; c->left -= used; *done = !c->left; return used; }
  while (used < n && !*done) {
    if (c->chunk > 0) { long k = n - used < c->chunk ? n - used : c->chunk; used += k; c->chunk -= k; if (!c->chunk) c->chunk = -3; continue; }
    char b = p[used++];
    if (b != '\n') { if (c->chunk == -1) c->left = c->left * 16 + (b <= '9' && b >= '0' ? b - '0' : (b | 32) >= 'a' && (b | 32) <= 'f' ? (b | 32) - 'a' + 10 : c->left * -15); else if (b != '\r') c->line_used = 1; continue; }
    if (c->chunk == -3) { c->chunk = -1; c->left = 0; }
    else if (c->chunk == -1) { c->chunk = c->left ? c->left : -2; c->left = 0; c->line_used = 0; }
    else { *done = !c->line_used; c->line_used = 0; }
  }
  return used;
}
static int take(conn *c, const char *p, long n) {
  while (n > 0) {
    if (c->left > 0 || c->in_chunks) {
      int done = 0; long k = body(c, p, n, &done); p += k; n -= k;
      if (done) { c->in_chunks = 0; c->left = 0; if (answer(c)) return -1; }
      continue;
    }
    int k = n < HEAD - 1 - c->filled ? (int)n : HEAD - 1 - c->filled; int was = c->filled;
    memcpy(c->head + was, p, k); c->filled += k; c->head[c->filled] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) { if (c->filled >= HEAD - 1) return -1; p += k; n -= k; continue; }
    int used = end - c->head + 4 - was; p += used; n -= used; end[2] = 0;
    sscanf(c->head, "%*s %255s", c->path);
    const char *length = field(c->head, "content-length:");
    c->in_chunks = field(c->head, "transfer-encoding:") != 0; c->chunk = -1; c->filled = 0; c->left = 0;
    if (!c->in_chunks && length) c->left = atoll(length);
    if (!c->in_chunks && !c->left && answer(c)) return -1;
  }
  return 0;
}
int main(int count, char **args) {
  if (count < 4) return 2;
  signal(SIGPIPE, SIG_IGN); events = atoi(args[1]); every_ms = atoi(args[2]); poller = epoll_create1(0);
  static const char json[] = "{\"model_name\":\"m\",\"model_version\":\"1\",\"outputs\":[{\"name\":\"OUTPUT0\",\"datatype\":\"FP32\",\"shape\":[1,16],\"data\":[0.0912,0.1031,0.0731,0.1198,0.0654,0.1377,0.0899,0.1242,0.0967,0.0989,0.1,0.2,0.3,0.4,0.5,0.6]}]}";
  small_bytes = snprintf(small, sizeof small, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-fed-load: 1\r\nContent-Length: %zu\r\n\r\n%s", sizeof json - 1, json);
  big = malloc(BIG + 256);
  big_bytes = sprintf(big, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nx-fed-load: 1\r\nContent-Length: %d\r\n\r\n", BIG);
  memset(big + big_bytes, 'x', BIG); big_bytes += BIG;
  for (int i = 3; i < count; i++) {
    int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(args[i])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(s, (void *)&a, sizeof a) || listen(s, 1024)) { perror("listen"); return 1; }
    conn *c = calloc(1, sizeof *c); c->fd = s; c->listener = 1; watch(c, EPOLLIN, EPOLL_CTL_ADD);
  }
  static char bytes[262144]; struct epoll_event ready[256];
  for (;;) {
    struct timespec wait, *patience = 0;
    if (streams) {
      long long t = now(), first = 1LL << 62;
      for (conn *c = streams; c; c = c->after) if (c->next < first) first = c->next;
      first = first <= t ? 0 : first - t; wait = (struct timespec){first / 1000000000LL, first % 1000000000LL}; patience = &wait;
    }
    int n = epoll_pwait2(poller, ready, 256, patience, 0);
    for (int i = 0; i < n; i++) {
      conn *c = ready[i].data.ptr;
      if (c->listener) {
        int f, on = 1;
        while ((f = accept4(c->fd, 0, 0, SOCK_NONBLOCK)) >= 0) {
          setsockopt(f, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
          conn *k = calloc(1, sizeof *k); k->fd = f; watch(k, EPOLLIN, EPOLL_CTL_ADD);
        }
        continue;
      }
      if (ready[i].events & EPOLLOUT) { if (flush(c)) { drop(c); continue; } if (!c->out_left) watch(c, EPOLLIN, EPOLL_CTL_MOD); }
      if (!(ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) continue;
      ssize_t r = recv(c->fd, bytes, sizeof bytes, 0);
      if (r == 0 || (r < 0 && errno != EAGAIN) || (r > 0 && take(c, bytes, r))) drop(c);
    }
    long long t = now();
    for (conn *c = streams, *next; c; c = next) { next = c->after; if (c->next <= t && event(c)) drop(c); }
  }
}
