/*
 * The load generator: opens subscribers, reads their streams, and holds every event against the sequence
 * that each of them must see.
 *
 *     load PORT PATH
 *
 * It takes commands from its standard input, one on a line, and answers each with one line of JSON:
 *
 *     connect N SECONDS   open N more subscribers, WINDOW at a time
 *     expect M SECONDS    wait until everyone has M more events, or the time is over
 *     watch SECONDS       read what comes in that time
 *     quit
 *
 * An event's data is SIZE bytes: ten digits of sequence number that begin at FIRST, a blank, nineteen digits
 * of CLOCK_MONOTONIC in nanoseconds, a blank, and padding.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SIZE 100
#define FIRST 1000000000LL
#define MOST 20000
#define WINDOW 64
#define HEAD 4096
#define LINE 256
/* Whatever the runner forgets: the end, in seconds. */
#define LIFE 900
/* Latencies are counted in steps of 10 microseconds, up to 10 seconds. */
#define STEP 10000
#define STEPS 1000000

enum phase { CONNECTING, IN_HEAD, IN_SIZE, IN_DATA, AFTER_DATA, UNTIL_CLOSED, GONE };

struct connection {
    int fd;
    enum phase phase;
    int64_t next;
    uint64_t left;
    char *head;
    int head_length;
    int line_length;
    char line[LINE];
};

static struct connection connections[MOST];
static int opened, connected, connecting, arrived;
static int64_t target = FIRST;
static int epoll, port;
static const char *path;
static uint32_t latencies[STEPS];
static uint64_t events, reads, comments, wrong, refused, closed, longest;
static char complaint[200];

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void complain(const char *what, const char *text, int length)
{
    if (complaint[0])
        return;
    char clean[81];
    int kept = 0;
    for (int i = 0; i < length && kept < 80; i++)
        clean[kept++] = text[i] < ' ' || text[i] == '"' || text[i] == '\\' || text[i] == 127 ? '.' : text[i];
    clean[kept] = 0;
    snprintf(complaint, sizeof complaint, "%s: %s", what, clean);
}

static void end(struct connection *one)
{
    if (one->phase == CONNECTING || one->phase == IN_HEAD)
        connecting--;
    /* A reset leaves no port in TIME_WAIT: the next run would soon find none. */
    struct linger linger = {1, 0};
    setsockopt(one->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(one->fd);
    free(one->head);
    one->head = NULL;
    one->phase = GONE;
    closed++;
}

static int64_t digits(const char *text, int count)
{
    int64_t number = 0;
    for (int i = 0; i < count; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        number = number * 10 + text[i] - '0';
    }
    return number;
}

static void take_line(struct connection *one, const char *line, int length, int64_t at)
{
    if (length && line[length - 1] == '\r')
        length--;
    if (length && line[0] == ':')
        comments++;
    if (length < 5 || memcmp(line, "data:", 5))
        return;
    line += 5, length -= 5;
    if (length && *line == ' ')
        line++, length--;
    int64_t number = length == SIZE ? digits(line, 10) : -1;
    if (number != one->next) {
        wrong++;
        complain(number < 0 ? "not an event" : number < one->next ? "seen before" : "one is missing", line,
                 length);
        if (number < 0)
            return;
    }
    one->next = number + 1;
    events++;
    if (one->next == target)
        arrived++;
    int64_t took = at - digits(line + 11, 19);
    if (took < 0)
        took = 0;
    if ((uint64_t)took > longest)
        longest = took;
    took /= STEP;
    latencies[took < STEPS ? took : STEPS - 1]++;
}

static void take_text(struct connection *one, const char *text, uint64_t length, int64_t at)
{
    while (length) {
        const char *stop = memchr(text, '\n', length);
        uint64_t size = stop ? (uint64_t)(stop - text) : length;
        if (stop && !one->line_length) {
            take_line(one, text, size, at);
        } else {
            if (one->line_length + size > LINE) {
                wrong++;
                complain("a line without end", text, size);
                one->line_length = 0;
            } else {
                memcpy(one->line + one->line_length, text, size);
                one->line_length += size;
            }
            if (stop) {
                take_line(one, one->line, one->line_length, at);
                one->line_length = 0;
            }
        }
        if (!stop)
            return;
        text += size + 1;
        length -= size + 1;
    }
}

/* Takes the body apart, chunked or not; what is left over is kept in the connection. */
static void take_body(struct connection *one, const char *text, uint64_t length, int64_t at)
{
    while (length) {
        uint64_t size;
        char byte;
        switch (one->phase) {
        case UNTIL_CLOSED:
            take_text(one, text, length, at);
            return;
        case IN_DATA:
            size = length < one->left ? length : one->left;
            take_text(one, text, size, at);
            text += size, length -= size, one->left -= size;
            if (!one->left)
                one->phase = AFTER_DATA;
            break;
        case AFTER_DATA:
            byte = *text++, length--;
            if (byte == '\n')
                one->phase = IN_SIZE;
            break;
        default:
            byte = *text++, length--;
            if (byte == '\n') {
                one->phase = IN_DATA;
                if (!one->left) {
                    complain("the stream has ended", "", 0);
                    end(one);
                    return;
                }
            } else if (byte != '\r') {
                int digit = byte >= '0' && byte <= '9' ? byte - '0' : (byte | 32) - 'a' + 10;
                one->left = one->left * 16 + (digit & 15);
            }
        }
    }
}

static void take_head(struct connection *one, const char *text, uint64_t length, int64_t at)
{
    uint64_t size = length;
    if (one->head_length + size > HEAD - 1)
        size = HEAD - 1 - one->head_length;
    int before = one->head_length;
    memcpy(one->head + before, text, size);
    one->head_length += size;
    one->head[one->head_length] = 0;
    char *stop = strstr(one->head, "\r\n\r\n");
    if (!stop) {
        if (one->head_length == HEAD - 1) {
            refused++;
            complain("a head without end", one->head, 80);
            end(one);
        }
        return;
    }
    uint64_t used = stop + 4 - one->head - before;
    stop[2] = 0;
    if (strncmp(one->head, "HTTP/1.1 200", 12) || !strcasestr(one->head, "\r\ncontent-type: text/event-stream")) {
        refused++;
        complain("no event stream", one->head, one->head_length);
        end(one);
        return;
    }
    one->phase = strcasestr(one->head, "\r\ntransfer-encoding: chunked") ? IN_SIZE : UNTIL_CLOSED;
    free(one->head);
    one->head = NULL;
    one->next = target;
    connecting--;
    connected++;
    take_body(one, text + used, length - used, at);
}

static void open_one(void)
{
    struct connection *one = &connections[opened];
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in here = {.sin_family = AF_INET};
    int yes = 1;
    one->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (one->fd < 0) {
        perror("socket");
        exit(1);
    }
    /* Many clients: there are not ports enough for all of them on one address. */
    here.sin_addr.s_addr = htonl(0x7f000001 + opened % 32);
    there.sin_addr.s_addr = htonl(0x7f000001);
    setsockopt(one->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    if (bind(one->fd, (struct sockaddr *)&here, sizeof here) ||
        (connect(one->fd, (struct sockaddr *)&there, sizeof there) && errno != EINPROGRESS)) {
        perror("connect");
        exit(1);
    }
    one->phase = CONNECTING;
    one->head = malloc(HEAD);
    one->head_length = one->line_length = 0;
    one->left = 0;
    struct epoll_event event = {EPOLLOUT, {.u32 = opened}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, one->fd, &event);
    opened++;
    connecting++;
}

static void ask(struct connection *one)
{
    char request[512];
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n", path);
    if (send(one->fd, request, length, MSG_NOSIGNAL) != length) {
        refused++;
        complain("cannot connect", strerror(errno), strlen(strerror(errno)));
        end(one);
        return;
    }
    one->phase = IN_HEAD;
    struct epoll_event event = {EPOLLIN, {.u32 = one - connections}};
    epoll_ctl(epoll, EPOLL_CTL_MOD, one->fd, &event);
}

static void take(struct connection *one)
{
    static char buffer[65536];
    ssize_t length = recv(one->fd, buffer, sizeof buffer, 0);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (length <= 0) {
        complain("the connection was closed", "", 0);
        end(one);
        return;
    }
    reads++;
    if (one->phase == IN_HEAD)
        take_head(one, buffer, length, now());
    else
        take_body(one, buffer, length, now());
}

static void take_events(int64_t until)
{
    static struct epoll_event found[1024];
    int64_t rest = (until - now()) / 1000000;
    int count = epoll_wait(epoll, found, 1024, rest < 0 ? 0 : rest > 1000 ? 1000 : rest + 1);
    for (int i = 0; i < count; i++) {
        struct connection *one = &connections[found[i].data.u32];
        if (one->phase == CONNECTING)
            ask(one);
        else if (one->phase != GONE)
            take(one);
    }
}

static double quantile(uint64_t total, double part)
{
    uint64_t wanted = total * part, seen = 0;
    for (int i = 0; i < STEPS; i++)
        if ((seen += latencies[i]) > wanted)
            return (i + 0.5) * STEP / 1e9;
    return 0;
}

static double seconds(struct timeval time)
{
    return time.tv_sec + time.tv_usec / 1e6;
}

static void report(int64_t began)
{
    static struct rusage before;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"seconds\": %.6f, \"connected\": %d, \"arrived\": %d, \"events\": %lu, \"reads\": %lu, "
           "\"comments\": %lu, \"wrong\": %lu, \"refused\": %lu, \"closed\": %lu, \"user\": %.6f, "
           "\"system\": %.6f, \"p50\": %.6f, \"p99\": %.6f, \"longest\": %.6f, \"complaint\": \"%s\"}\n",
           (now() - began) / 1e9, connected, arrived, events, reads, comments, wrong, refused, closed,
           seconds(usage.ru_utime) - seconds(before.ru_utime), seconds(usage.ru_stime) - seconds(before.ru_stime),
           quantile(events, 0.5), quantile(events, 0.99), longest / 1e9, complaint);
    fflush(stdout);
    before = usage;
    events = reads = comments = longest = 0;
    memset(latencies, 0, sizeof latencies);
}

static void obey(const char *command)
{
    int64_t began = now();
    int count;
    double most;
    if (sscanf(command, "connect %d %lf", &count, &most) == 2) {
        int wanted = opened + count;
        if (wanted > MOST)
            wanted = MOST;
        while ((opened < wanted || connecting) && now() < began + most * 1e9) {
            while (opened < wanted && connecting < WINDOW)
                open_one();
            take_events(began + most * 1e9);
        }
    } else if (sscanf(command, "expect %d %lf", &count, &most) == 2) {
        target += count;
        arrived = 0;
        for (int i = 0; i < opened; i++)
            arrived += connections[i].phase != GONE && connections[i].next >= target;
        while (arrived < connected && !wrong && !closed && now() < began + most * 1e9)
            take_events(began + most * 1e9);
    } else if (sscanf(command, "watch %lf", &most) == 1) {
        while (now() < began + most * 1e9)
            take_events(began + most * 1e9);
    } else {
        exit(0);
    }
    report(began);
}

int main(int count, char **arguments)
{
    char input[256];
    if (count != 3) {
        fprintf(stderr, "usage: load PORT PATH\n");
        return 2;
    }
    port = atoi(arguments[1]);
    path = arguments[2];
    epoll = epoll_create1(EPOLL_CLOEXEC);
    alarm(LIFE);
    while (fgets(input, sizeof input, stdin))
        obey(input);
    return 0;
}
