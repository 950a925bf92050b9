/*
 * The program of Docker's managed plugin, by which contiv's networks are had in Swarm mode (docs/guide/swarm.md). It hands each call of
 * dockerd's over to netplugin, and its answer back. What is asked for is netplugin's to decide: nothing is kept here, so that the plugin may
 * be disabled, exchanged or killed while containers go on.
 *
 *   dockerd --/run/docker/plugins/contiv.sock--> this program --/run/contiv-swarm/netplugin.sock--> netplugin
 *
 * One request a connection, each in a process of its own. A call that netplugin's end cut off is asked again, as one that finds it away is:
 * netplugin gives one answer to the same call. dockerd itself would repeat it without its contents, and waits for 30 s; so after PATIENCE
 * it is told in one line. What dockerd asks once about the driver itself is answered here: it registers none that does not answer just then.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Both may be said by the environment, for tests. */
static const char *plugin = "/run/docker/plugins/contiv.sock";
static const char *agent_socket = "/run/contiv-swarm/netplugin.sock";

/* What never changes, by the call's first line. Both of Swarm's address spaces are told apart by their name (driver.ts). */
static const struct {
  const char *call, *answer;
} ABOUT[] = {
    {"POST /Plugin.Activate ", "{\"Implements\":[\"NetworkDriver\",\"IpamDriver\"]}\n"},
    {"POST /NetworkDriver.GetCapabilities ", "{\"Scope\":\"global\",\"ConnectivityScope\":\"global\"}\n"},
    {"POST /IpamDriver.GetCapabilities ", "{\"RequiresMACAddress\":false,\"RequiresRequestReplay\":false}\n"},
    /* Of other hosts netmaster tells. */
    {"POST /NetworkDriver.DiscoverNew ", "{}\n"},
    {"POST /NetworkDriver.DiscoverDelete ", "{}\n"},
    {"POST /IpamDriver.GetDefaultAddressSpaces ",
     "{\"LocalDefaultAddressSpace\":\"contiv-node\",\"GlobalDefaultAddressSpace\":\"contiv-swarm\"}\n"},
};

/* Milliseconds. */
enum { PATIENCE = 25000, PAUSE = 50 };
/* Bytes. dockerd's calls are some kilobytes, and 120 bytes for each published port. */
enum { LARGEST = 32 << 20, LARGEST_HEAD = 64 << 10 };

#define AWAY "netplugin does not answer on this host: is it running? systemctl status contiv-netplugin"

struct bytes {
  char *at;
  size_t size, room;
};

static long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void append(struct bytes *to, const char *from, size_t size) {
  if (to->size + size > to->room) {
    to->room = (to->size + size) * 2;
    to->at = realloc(to->at, to->room);
    if (to->at == NULL) exit(1);
  }
  memcpy(to->at + to->size, from, size);
  to->size += size;
}

static struct sockaddr_un address_of(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  return address;
}

/* Waits until it may be read or written; false: not before the deadline, which 0 is none. */
static bool await(int fd, short events, long deadline) {
  for (;;) {
    long left = deadline == 0 ? -1 : deadline - now();
    if (deadline != 0 && left <= 0) return false;
    struct pollfd polled = {.fd = fd, .events = events};
    int ready = poll(&polled, 1, (int)left);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

static bool send_all(int fd, const char *from, size_t size, long deadline) {
  while (size > 0) {
    if (!await(fd, POLLOUT, deadline)) return false;
    ssize_t sent = send(fd, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (sent < 0) return false;
    from += sent;
    size -= (size_t)sent;
  }
  return true;
}

/* What came; 0: no more comes, or not before the deadline. */
static size_t receive(int fd, struct bytes *to, long deadline) {
  char part[16384];
  for (;;) {
    if (!await(fd, POLLIN, deadline)) return 0;
    ssize_t got = recv(fd, part, sizeof part, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return 0;
    append(to, part, (size_t)got);
    return (size_t)got;
  }
}

/*
 * Reads a message of HTTP until it is whole, by the length that its head says; a request without one has no contents. Its head ends at
 * `*body`, with a zero byte put behind all. False: it is not whole.
 */
static bool read_message(int fd, struct bytes *message, size_t *body, bool is_answer, long deadline) {
  message->size = *body = 0;
  size_t wanted = 0;
  for (;;) {
    if (*body != 0 && message->size >= *body + wanted) {
      append(message, "", 1);
      message->size--;
      return message->size == *body + wanted;
    }
    if (receive(fd, message, deadline) == 0 || message->size > LARGEST) return false;
    if (*body != 0) continue;
    char *end = memmem(message->at, message->size, "\r\n\r\n", 4);
    if (end == NULL) {
      if (message->size > LARGEST_HEAD) return false;
      continue;
    }
    *end = 0;
    char *length = strcasestr(message->at, "\r\nContent-Length:");
    if (length != NULL) wanted = strtoul(length + 17, NULL, 10);
    *end = '\r';
    if (wanted > LARGEST || (length == NULL && is_answer)) return false;
    *body = (size_t)(end + 4 - message->at);
  }
}

static void answer_with(int to, const char *body) {
  char head[256];
  size_t size = strlen(body);
  int length = snprintf(head, sizeof head,
                        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.plugins.v1.1+json\r\n"
                        "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                        size);
  if (send_all(to, head, (size_t)length, 0)) send_all(to, body, size, 0);
}

/* False: netplugin does not answer, or ended within the call. */
static bool hand_over(int from, const struct bytes *request, size_t body, long deadline) {
  int agent = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_un address = address_of(agent_socket);
  struct bytes answer = {0};
  size_t answered = 0;
  char head[512];
  /* dockerd's own head names a host and headers that say nothing here: only its first line is handed on. */
  int line = (int)(strstr(request->at, "\r\n") - request->at);
  int length = snprintf(head, sizeof head, "%.*s\r\nHost: netplugin\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", line,
                        request->at, request->size - body);
  bool done = agent >= 0 && length < (int)sizeof head && connect(agent, (struct sockaddr *)&address, sizeof address) == 0 &&
              send_all(agent, head, (size_t)length, deadline) &&
              send_all(agent, request->at + body, request->size - body, deadline) &&
              read_message(agent, &answer, &answered, true, deadline);
  if (agent >= 0) close(agent);
  if (done) send_all(from, answer.at, answer.size, 0);
  free(answer.at);
  return done;
}

static void serve(int from) {
  struct bytes request = {0};
  size_t body = 0;
  if (!read_message(from, &request, &body, false, 0)) return;
  for (size_t i = 0; i < sizeof ABOUT / sizeof *ABOUT; i++)
    if (strncmp(request.at, ABOUT[i].call, strlen(ABOUT[i].call)) == 0) return answer_with(from, ABOUT[i].answer);
  long deadline = now() + PATIENCE;
  while (!hand_over(from, &request, body, deadline)) {
    if (now() + PAUSE > deadline)
      /* In the words of both of dockerd's interfaces: drivers fail with Err, address management with Error. */
      return answer_with(from, "{\"Err\":\"" AWAY "\",\"Error\":\"" AWAY "\"}\n");
    usleep(PAUSE * 1000);
  }
}

static void end(int signal) {
  (void)signal;
  _exit(0);
}

static void path_from(const char *variable, const char **path) {
  const char *value = getenv(variable);
  if (value != NULL && *value != 0) *path = value;
}

int main(void) {
  path_from("CONTIV_PLUGIN_SOCKET", &plugin);
  path_from("CONTIV_SOCKET", &agent_socket);
  signal(SIGCHLD, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  /* As the first process of its namespace it would go on. */
  signal(SIGTERM, end);
  struct sockaddr_un address = address_of(plugin);
  unlink(plugin);
  mkdir("/run/docker", 0755);
  mkdir("/run/docker/plugins", 0755);
  int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listening < 0 || bind(listening, (struct sockaddr *)&address, sizeof address) != 0 || listen(listening, 1024) != 0) {
    fprintf(stderr, "contiv-swarm: cannot listen on %s: %s\n", plugin, strerror(errno));
    return 1;
  }
  for (;;) {
    int from = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    if (from < 0) {
      usleep(PAUSE * 1000);
      continue;
    }
    pid_t child = fork();
    if (child == 0) {
      close(listening);
      serve(from);
      return 0;
    }
    /* Too many processes: dockerd asks again. */
    close(from);
  }
}
