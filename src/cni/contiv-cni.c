/*
 * The CNI plugin as runtimes execute it (https://www.cni.dev/docs/spec/). What is asked for is netplugin's to decide and to do: this
 * program hands it over on netplugin's control socket, as one HTTP request, and prints the answer.
 *
 *   environment (CNI_*), stdin --POST /cni--> netplugin --result or error--> stdout; exit status 0, or 1 after an error
 *
 * The body of the request is each variable as NAME=VALUE with a zero byte behind it, one more zero byte, and stdin as it came.
 * So no JSON is read or written here, but for errors of this program's own.
 *
 * Where netplugin does not answer:
 *
 *   ADD, CHECK, GC   wait for it: at boot a runtime is often earlier. What was cut off by its end is asked again, which may be, since
 *                    netplugin gives one answer to the same ADD. After PATIENCE: code 11, try again later.
 *   DEL              must not hold up a node's clean-up. After PATIENCE_DEL the interface is deleted here, by which netplugin finds
 *                    that the container is gone when it is back; then DEL has done what it is for.
 *   STATUS           says at once that no ADD can be served.
 *   VERSION          is answered here.
 *
 * A runtime that is killed, or kills this, closes the connection, by which netplugin knows that nobody has the answer, and undoes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static const char SOCKET[] = "/run/contiv/netplugin.sock";
static const char VERSIONS[] = "\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"";

/* Milliseconds. */
enum { PATIENCE = 60000, PATIENCE_DEL = 8000, PATIENCE_ABSENT = 30000, PATIENCE_ABSENT_DEL = 2000, PAUSE = 50 };

/* Error codes of the specification. */
enum { INVALID_ENVIRONMENT = 4, IO_FAILURE = 5, TRY_AGAIN_LATER = 11, UNAVAILABLE = 50 };

/* A configuration is some kilobytes; GC's has a line for each container. */
enum { LARGEST = 16 << 20 };

struct bytes {
  char *at;
  size_t size, room;
};

static char version[32] = "1.1.0";

static long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* As the inside of a JSON string; what is not UTF-8 of one byte becomes '?', as messages here are plain. */
static void print_escaped(const char *text) {
  for (const unsigned char *c = (const unsigned char *)text; *c; c++)
    if (*c == '"' || *c == '\\')
      printf("\\%c", *c);
    else
      putchar(*c < 0x20 || *c > 0x7e ? '?' : *c);
}

static _Noreturn void fail(int code, const char *format, ...) {
  char message[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  printf("{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"", version, code);
  print_escaped(message);
  printf("\"}\n");
  fflush(stdout);
  exit(1);
}

static void append(struct bytes *to, const char *from, size_t size) {
  if (to->size + size > to->room) {
    to->room = (to->size + size) * 2;
    to->at = realloc(to->at, to->room);
    if (to->at == NULL) {
      to->size = 0;
      fail(IO_FAILURE, "contiv-cni: no memory");
    }
  }
  memcpy(to->at + to->size, from, size);
  to->size += size;
}

static void read_stdin(struct bytes *to) {
  char part[16384];
  for (;;) {
    ssize_t got = read(0, part, sizeof part);
    if (got == 0) return;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(IO_FAILURE, "contiv-cni: the configuration cannot be read from stdin: %s", strerror(errno));
    append(to, part, (size_t)got);
    if (to->size > LARGEST) fail(IO_FAILURE, "contiv-cni: the configuration is larger than %d bytes", LARGEST);
  }
}

/* The version that the configuration names, for answers of our own: a value of digits and dots, or the newest. */
static void find_version(const struct bytes *configuration) {
  static const char key[] = "\"cniVersion\"";
  const char *end = configuration->at + configuration->size;
  const char *at = configuration->size == 0 ? NULL : memmem(configuration->at, configuration->size, key, sizeof key - 1);
  if (at == NULL) return;
  at += sizeof key - 1;
  while (at < end && strchr(" \t\r\n:", *at) && *at) at++;
  if (at == end || *at++ != '"') return;
  size_t size = 0;
  while (at + size < end && at[size] && strchr("0123456789.", at[size])) size++;
  if (at + size == end || at[size] != '"' || size == 0 || size >= sizeof version) return;
  memcpy(version, at, size);
  version[size] = 0;
}

/* A connection to netplugin, or -1. */
static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) fail(INVALID_ENVIRONMENT, "CONTIV_SOCKET: the path %s is too long", path);
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
  close(fd);
  return -1;
}

/* Waits until it may be read or written; false: not before the deadline. */
static bool await(int fd, short events, long deadline) {
  for (;;) {
    long left = deadline - now();
    if (left <= 0) return false;
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

/* Its status, and the body in `answer`, from `*body` on; 0: it is not whole. */
static int ask(int fd, const struct bytes *request, struct bytes *answer, size_t *body, long deadline) {
  char head[256];
  int length = snprintf(head, sizeof head,
                        "POST /cni HTTP/1.1\r\nHost: netplugin\r\nContent-Type: application/octet-stream\r\n"
                        "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                        request->size);
  if (!send_all(fd, head, (size_t)length, deadline) || !send_all(fd, request->at, request->size, deadline)) return 0;
  answer->size = 0;
  for (;;) {
    char part[16384];
    if (!await(fd, POLLIN, deadline)) return 0;
    ssize_t got = recv(fd, part, sizeof part, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return 0;
    if (got == 0) break;
    append(answer, part, (size_t)got);
    if (answer->size > LARGEST) return 0;
  }
  append(answer, "", 1);
  const char *end = strstr(answer->at, "\r\n\r\n");
  const char *size = strcasestr(answer->at, "\r\nContent-Length:");
  int status = 0;
  if (end == NULL || size == NULL || size > end || sscanf(answer->at, "HTTP/1.1 %d", &status) != 1) return 0;
  *body = (size_t)(end + 4 - answer->at);
  return answer->size - 1 - *body == strtoul(size + 17, NULL, 10) ? status : 0;
}

/* Deletes the container's interface. Fine where it, or the namespace, is not there. */
static void delete_interface(const char *namespace, const char *interface) {
  if (namespace == NULL || *namespace == 0 || interface == NULL) return;
  int there = open(namespace, O_RDONLY | O_CLOEXEC);
  if (there < 0 || setns(there, CLONE_NEWNET) != 0) return;
  struct {
    struct nlmsghdr head;
    struct ifinfomsg link;
  } request = {.head = {.nlmsg_len = sizeof request, .nlmsg_type = RTM_DELLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
               .link = {.ifi_index = (int)if_nametoindex(interface)}};
  if (request.link.ifi_index == 0) return;
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  struct {
    struct nlmsghdr head;
    struct nlmsgerr error;
    char rest[1024];
  } answer = {0};
  if (fd < 0 || send(fd, &request, sizeof request, 0) < 0 || recv(fd, &answer, sizeof answer, 0) < 0)
    fail(TRY_AGAIN_LATER, "netplugin does not answer, and %s cannot be deleted in %s: %s", interface, namespace, strerror(errno));
  if (answer.head.nlmsg_type == NLMSG_ERROR && answer.error.error != 0 && answer.error.error != -ENODEV)
    fail(TRY_AGAIN_LATER, "netplugin does not answer, and %s cannot be deleted in %s: %s", interface, namespace,
         strerror(-answer.error.error));
}

int main(void) {
  static const char *const NAMES[] = {"CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"};
  signal(SIGPIPE, SIG_IGN);
  const char *command = getenv("CNI_COMMAND");
  if (command == NULL || *command == 0) {
    fprintf(stderr, "contiv-cni: CNI plugin of netplugin, CNI versions %s\n", VERSIONS);
    fail(INVALID_ENVIRONMENT, "CNI_COMMAND is missing: this program is started by container runtimes");
  }
  struct bytes configuration = {0}, request = {0}, answer = {0};
  read_stdin(&configuration);
  find_version(&configuration);
  if (strcmp(command, "VERSION") == 0) {
    printf("{\"cniVersion\":\"%s\",\"supportedVersions\":[%s]}\n", version, VERSIONS);
    return 0;
  }
  for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
    const char *value = getenv(NAMES[i]);
    if (value == NULL) continue;
    append(&request, NAMES[i], strlen(NAMES[i]));
    append(&request, "=", 1);
    append(&request, value, strlen(value) + 1);
  }
  append(&request, "", 1);
  append(&request, configuration.at, configuration.size);

  const char *path = getenv("CONTIV_SOCKET");
  if (path == NULL || *path == 0) path = SOCKET;
  bool is_del = strcmp(command, "DEL") == 0, is_status = strcmp(command, "STATUS") == 0;
  long began = now();
  long deadline = began + (is_del ? PATIENCE_DEL : PATIENCE);
  long absent = began + (is_status ? 0 : is_del ? PATIENCE_ABSENT_DEL : PATIENCE_ABSENT);
  for (;;) {
    int fd = connect_to(path);
    if (fd >= 0) {
      size_t body = 0;
      int status = ask(fd, &request, &answer, &body, deadline);
      close(fd);
      if (status != 0) {
        size_t size = answer.size - 1 - body;
        if (fwrite(answer.at + body, 1, size, stdout) != size || fflush(stdout) != 0) return 1;
        return status == 200 ? 0 : 1;
      }
    }
    long left = (fd < 0 ? absent : deadline) - now();
    if (left <= 0) break;
    usleep(PAUSE * 1000);
  }
  if (is_del) {
    delete_interface(getenv("CNI_NETNS"), getenv("CNI_IFNAME"));
    return 0;
  }
  fail(is_status ? UNAVAILABLE : TRY_AGAIN_LATER, "netplugin does not answer at %s: is it running on this host?", path);
}
