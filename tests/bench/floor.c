/* What no server can undercut: one send() for each delivery, from C.
 *
 *     cc -O2 -o floor floor.c && ./floor RATE BYTES
 *
 * Listens on a free port of 127.0.0.1 and prints it. Answers whatever a client says first with a fixed 101,
 * then writes the same prebuilt text frame of BYTES to all clients, RATE times a second. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { MAX_CLIENTS = 20000, MAX_EVENTS = 512, LISTENER = -1, TIMER = -2 };

static const char ANSWER[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    "\x81\x1a{\"method\":\"feed.snapshot\"}";

static int clients[MAX_CLIENTS];
static int count;

static void watch(int epoll, int fd, int what) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = ((unsigned long long)(unsigned)what << 32) | (unsigned)fd};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) { perror("epoll_ctl"); exit(1); }
}

static int listening(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof place;
    if (fd < 0 || bind(fd, (struct sockaddr *)&place, size) != 0 || listen(fd, 4096) != 0) { perror("listen"); exit(1); }
    getsockname(fd, (struct sockaddr *)&place, &size);
    printf("%d\n", ntohs(place.sin_port));
    fflush(stdout);
    return fd;
}

static int ticking(double rate) {
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    long every = (long)(1e9 / rate);
    struct itimerspec times = {.it_interval = {every / 1000000000L, every % 1000000000L}};
    times.it_value = times.it_interval;
    if (fd < 0 || timerfd_settime(fd, 0, &times, NULL) != 0) { perror("timerfd"); exit(1); }
    return fd;
}

static void come_in(int epoll, int listener) {
    int fd, one = 1;
    while (count < MAX_CLIENTS && (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(epoll, fd, 0);
    }
}

static void hear(int fd) {
    char heard[4096];
    ssize_t size = recv(fd, heard, sizeof heard, 0);
    if (size <= 0) {
        for (int client = 0; client < count; client++)
            if (clients[client] == fd) clients[client] = clients[--count];
        close(fd);
        return;
    }
    if (size > 4 && memcmp(heard, "GET ", 4) == 0) {
        send(fd, ANSWER, sizeof ANSWER - 1, MSG_NOSIGNAL);
        clients[count++] = fd;
    }
}

int main(int arguments, char **argument) {
    if (arguments != 3) { fprintf(stderr, "floor RATE BYTES\n"); return 2; }
    int size = atoi(argument[2]);
    unsigned char *frame = malloc((size_t)size + 4);
    if (frame == NULL || size < 126 || size > 65535) { fprintf(stderr, "BYTES: 126 to 65535\n"); return 2; }
    frame[0] = 0x81; frame[1] = 126; frame[2] = (unsigned char)(size >> 8); frame[3] = (unsigned char)size;
    memset(frame + 4, 'x', (size_t)size);
    memcpy(frame + 4, "{\"method\":\"feed.delta\",\"params\":\"", 33);
    memcpy(frame + 4 + size - 2, "\"}", 2);

    int epoll = epoll_create1(0), listener = listening(), timer = ticking(atof(argument[1]));
    watch(epoll, listener, LISTENER);
    watch(epoll, timer, TIMER);
    for (;;) {
        struct epoll_event events[MAX_EVENTS];
        int ready = epoll_wait(epoll, events, MAX_EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = (int)(unsigned)events[i].data.u64, what = (int)(events[i].data.u64 >> 32);
            unsigned long long ticks = 0;
            if (what == LISTENER) come_in(epoll, listener);
            else if (what != TIMER) hear(fd);
            else if (read(timer, &ticks, sizeof ticks) > 0)
                for (; ticks > 0; ticks--)
                    for (int client = 0; client < count; client++)
                        send(clients[client], frame, (size_t)size + 4, MSG_NOSIGNAL);
        }
    }
}
