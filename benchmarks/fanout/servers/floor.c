/*
 * The floor: the cost of an event if a server does nothing but send it. One loop of epoll and send(); the
 * events of one turn are framed once and sent with one send() per subscriber.
 *
 *     floor PORT KEEPALIVE
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SIZE 100
#define FIRST 1000000000LL
#define MOST 20000
#define FRAME (SIZE + 8)
#define MOST_BURST 4096
/* Seconds until the process exits by itself: longer than any run. */
#define LIFE 900

static int epoll, listening, count;
static int subscribers[MOST];
static int64_t sequence = FIRST, keepalive, spoke;

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void forget(int fd)
{
    for (int i = 0; i < count; i++)
        if (subscribers[i] == fd)
            subscribers[i] = subscribers[--count];
    close(fd);
}

/* Sends everything, and waits if the kernel accepts only a part: so a slow reader stops the floor. */
static int send_all(int fd, const char *bytes, size_t length)
{
    while (length) {
        ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd wait = {fd, POLLOUT, 0};
            poll(&wait, 1, 1000);
        } else if (sent < 0) {
            return -1;
        } else {
            bytes += sent, length -= sent;
        }
    }
    return 0;
}

static void send_to_all(const char *text, size_t length)
{
    static char chunk[MOST_BURST * FRAME + 32];
    size_t size = sprintf(chunk, "%zx\r\n", length);
    memcpy(chunk + size, text, length);
    memcpy(chunk + size + length, "\r\n", 2);
    size += length + 2;
    for (int i = count; i--;)
        if (send_all(subscribers[i], chunk, size))
            forget(subscribers[i]);
    spoke = now();
}

static void publish(int burst)
{
    static char text[MOST_BURST * FRAME + 1];
    size_t length = 0;
    int64_t at = now();
    for (int i = 0; i < burst; i++)
        length += sprintf(text + length, "data: %010ld %019ld %069d\n\n", sequence++, at, 0);
    send_to_all(text, length);
}

static void turn(int64_t until);

static void publish_turns(int turns, int burst, double interval)
{
    int64_t began = now();
    for (int i = 0; i < turns; i++) {
        publish(burst);
        do
            turn(began + (i + 1) * interval * 1e9);
        while (now() < began + (i + 1) * interval * 1e9);
    }
}

static void answer(int fd)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                               "Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n";
    static const char done[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    char request[2048];
    int turns, burst;
    double interval;
    /* Requests are short, and arrive in one piece over loopback. */
    ssize_t length = recv(fd, request, sizeof request - 1, MSG_DONTWAIT);
    if (length <= 0) {
        if (length == 0 || errno != EAGAIN)
            forget(fd);
        return;
    }
    request[length] = 0;
    if (sscanf(request, "POST /publish?turns=%d&burst=%d&interval=%lf", &turns, &burst, &interval) == 3) {
        publish_turns(turns, burst < MOST_BURST ? burst : MOST_BURST, interval);
        send_all(fd, done, sizeof done - 1);
        close(fd);
    } else if (!strncmp(request, "GET /events", 11) && count < MOST) {
        send_all(fd, head, sizeof head - 1);
        subscribers[count++] = fd;
    } else {
        close(fd);
    }
}

static void turn(int64_t until)
{
    struct epoll_event found[64];
    if (until > spoke + keepalive)
        until = spoke + keepalive;
    int64_t rest = (until - now()) / 1000000;
    int ready = epoll_wait(epoll, found, 64, rest < 0 ? 0 : rest > 1000 ? 1000 : rest);
    for (int i = 0; i < ready; i++) {
        if (found[i].data.fd != listening) {
            answer(found[i].data.fd);
            continue;
        }
        int yes = 1, fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct epoll_event event = {EPOLLIN, {.fd = fd}};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
    if (now() >= spoke + keepalive)
        send_to_all(":\n\n", 3);
}

int main(int number, char **arguments)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr = {htonl(0x7f000001)}};
    int yes = 1;
    if (number != 3) {
        fprintf(stderr, "usage: floor PORT KEEPALIVE\n");
        return 2;
    }
    alarm(LIFE);
    keepalive = atof(arguments[2]) * 1e9;
    here.sin_port = htons(atoi(arguments[1]));
    listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listening, (struct sockaddr *)&here, sizeof here) || listen(listening, 1024)) {
        perror("listen");
        return 1;
    }
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {EPOLLIN, {.fd = listening}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listening, &event);
    spoke = now();
    for (;;)
        turn(now() + 1000000000);
}
