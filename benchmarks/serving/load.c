/*
 * The load generator: publishes over HTTP, reads the streams of the subscribers, and holds every event against
 * what was published. That of fanout/ takes a single sequence, which several publishers do not make: here each
 * has its own.
 *
 *     load PORT SUBSCRIBE PUBLISH
 *
 * The last two are files with a request each, whole as it is sent; in that which publishes, SIZE bytes of @
 * are where the data go. Commands come from the standard input, one on a line, and are answered with one line
 * of JSON each:
 *
 *     connect N SECONDS                  open N subscribers, WINDOW at a time
 *     publish COUNT LANES RATE SECONDS   publish COUNT updates on LANES connections, RATE a second, or as fast
 *                                        as they are answered, for 0; wait until everyone has them, or the time
 *                                        is over
 *     watch SECONDS                      read what comes in that time
 *     quit
 *
 * Data are two digits of lane, ten of a number that begins at FIRST in each lane, nineteen of CLOCK_MONOTONIC in
 * nanoseconds, and padding, with dots in between: what a form need not encode.
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
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SIZE 100
#define FIRST 1000000000LL
#define MOST 20000
#define MOST_LANES 16
#define WINDOW 64
#define HEAD 4096
#define LINE 256
#define REQUEST 8192
/* Whatever the runner forgets: the end, in seconds. */
#define LIFE 900
/* Latencies are counted in steps of 10 microseconds, up to 10 seconds. */
#define STEP 10000
#define STEPS 1000000

enum phase { CONNECTING, IN_HEAD, IN_SIZE, IN_DATA, AFTER_DATA, UNTIL_CLOSED, GONE };

struct subscriber {
    int fd;
    enum phase phase;
    int64_t next[MOST_LANES];
    int64_t has;
    uint64_t left;
    char *head;
    int head_length;
    int line_length;
    char line[LINE];
};

struct publisher {
    int fd;
    int waits;
    int length;
    char answer[HEAD];
};

static struct subscriber subscribers[MOST];
static struct publisher publishers[MOST_LANES];
static int64_t next_number[MOST_LANES];
static int opened, connected, connecting, arrived, lanes, paced;
static int64_t target, unsent, unanswered, last_answer;
static int epoll, port;
static char subscribe[REQUEST], publish[REQUEST];
static int subscribe_length, publish_length;
static char *data;
static uint32_t latencies[STEPS];
static uint64_t events, wrong, refused, closed, longest;
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

static void end(struct subscriber *one)
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

static void take_line(struct subscriber *one, const char *line, int length, int64_t at)
{
    if (length && line[length - 1] == '\r')
        length--;
    if (length < 5 || memcmp(line, "data:", 5))
        return;
    line += 5, length -= 5;
    if (length && *line == ' ')
        line++, length--;
    int64_t lane = length == SIZE ? digits(line, 2) : -1;
    int64_t number = lane >= 0 && lane < MOST_LANES ? digits(line + 3, 10) : -1;
    if (number < 0) {
        wrong++;
        complain("not an event", line, length);
        return;
    }
    if (number != one->next[lane]) {
        wrong++;
        complain(number < one->next[lane] ? "seen before" : "one is missing", line, length);
    }
    one->next[lane] = number + 1;
    one->has++;
    events++;
    if (one->has == target)
        arrived++;
    int64_t took = at - digits(line + 14, 19);
    if (took < 0)
        took = 0;
    if ((uint64_t)took > longest)
        longest = took;
    took /= STEP;
    latencies[took < STEPS ? took : STEPS - 1]++;
}

static void take_text(struct subscriber *one, const char *text, uint64_t length, int64_t at)
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

/* Takes the body apart, chunked or not; what is left over is kept in the subscriber. */
static void take_body(struct subscriber *one, const char *text, uint64_t length, int64_t at)
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

static void take_head(struct subscriber *one, const char *text, uint64_t length, int64_t at)
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
    connecting--;
    connected++;
    take_body(one, text + used, length - used, at);
}

static int open_socket(int number)
{
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in here = {.sin_family = AF_INET};
    int yes = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        perror("socket");
        exit(1);
    }
    /* Many clients: there are not ports enough for all of them on one address. */
    here.sin_addr.s_addr = htonl(0x7f000001 + number % 32);
    there.sin_addr.s_addr = htonl(0x7f000001);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) ||
        (connect(fd, (struct sockaddr *)&there, sizeof there) && errno != EINPROGRESS)) {
        perror("connect");
        exit(1);
    }
    return fd;
}

static void open_one(void)
{
    struct subscriber *one = &subscribers[opened];
    one->fd = open_socket(opened);
    one->phase = CONNECTING;
    one->head = malloc(HEAD);
    memcpy(one->next, next_number, sizeof next_number);
    one->has = target;
    struct epoll_event event = {EPOLLOUT, {.u32 = opened}};
    epoll_ctl(epoll, EPOLL_CTL_ADD, one->fd, &event);
    opened++;
    connecting++;
}

static void ask(struct subscriber *one)
{
    if (send(one->fd, subscribe, subscribe_length, MSG_NOSIGNAL) != subscribe_length) {
        refused++;
        complain("cannot connect", strerror(errno), strlen(strerror(errno)));
        end(one);
        return;
    }
    one->phase = IN_HEAD;
    struct epoll_event event = {EPOLLIN, {.u32 = one - subscribers}};
    epoll_ctl(epoll, EPOLL_CTL_MOD, one->fd, &event);
}

static void take(struct subscriber *one)
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
    if (one->phase == IN_HEAD)
        take_head(one, buffer, length, now());
    else
        take_body(one, buffer, length, now());
}

static void refuse_publisher(const char *what, const char *text, int length)
{
    refused++;
    complain(what, text, length);
}

static void publish_one(int lane)
{
    struct publisher *one = &publishers[lane];
    char written[40];
    snprintf(written, sizeof written, "%02d.%010ld.%019ld.", lane, next_number[lane]++, now());
    memcpy(data, written, 34);
    one->waits = 1;
    one->length = 0;
    unsent--;
    if (send(one->fd, publish, publish_length, MSG_NOSIGNAL) != publish_length)
        refuse_publisher("cannot publish", strerror(errno), strlen(strerror(errno)));
}

static void take_answer(int lane)
{
    struct publisher *one = &publishers[lane];
    ssize_t length = recv(one->fd, one->answer + one->length, HEAD - 1 - one->length, 0);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (length <= 0 || !one->waits) {
        refuse_publisher(length > 0 ? "an answer that nobody asked for" : "a publisher's connection was closed", "",
                         0);
        epoll_ctl(epoll, EPOLL_CTL_DEL, one->fd, NULL);
        return;
    }
    one->length += length;
    one->answer[one->length] = 0;
    char *stop = strstr(one->answer, "\r\n\r\n");
    if (!stop)
        return;
    char *field = strcasestr(one->answer, "\r\ncontent-length:");
    if (strncmp(one->answer, "HTTP/1.1 20", 11) || !field || field > stop) {
        refuse_publisher("publishing was answered with", one->answer, one->length);
        return;
    }
    if (stop + 4 - one->answer + atoi(field + 17) > one->length)
        return;
    one->waits = 0;
    unanswered--;
    last_answer = now();
    if (!paced && unsent)
        publish_one(lane);
}

static void open_publishers(int count)
{
    for (; lanes < count; lanes++) {
        struct publisher *one = &publishers[lanes];
        one->fd = open_socket(lanes);
        poll(&(struct pollfd){one->fd, POLLOUT, 0}, 1, 1000);
        struct epoll_event event = {EPOLLIN, {.u32 = MOST + lanes}};
        epoll_ctl(epoll, EPOLL_CTL_ADD, one->fd, &event);
    }
}

static void take_events(int64_t until)
{
    static struct epoll_event found[1024];
    int64_t rest = (until - now()) / 1000000;
    int count = epoll_wait(epoll, found, 1024, rest < 0 ? 0 : rest > 1000 ? 1000 : rest + 1);
    for (int i = 0; i < count; i++) {
        if (found[i].data.u32 >= MOST) {
            take_answer(found[i].data.u32 - MOST);
            continue;
        }
        struct subscriber *one = &subscribers[found[i].data.u32];
        if (one->phase == CONNECTING)
            ask(one);
        else if (one->phase != GONE)
            take(one);
    }
}

static void publish_all(int64_t count, int wanted, double rate, int64_t began, int64_t over)
{
    target += count;
    arrived = 0;
    unsent = unanswered = count;
    paced = rate > 0;
    open_publishers(wanted);
    /* The others follow when these are answered. */
    for (int lane = 0; lane < wanted && unsent && !paced; lane++)
        publish_one(lane);
    while ((unanswered || arrived < connected) && !wrong && !closed && !refused && now() < over) {
        int64_t until = over;
        for (int lane = 0; lane < wanted && unsent && paced; lane++) {
            int64_t due = began + (count - unsent) / rate * 1e9;
            if (!publishers[lane].waits && now() >= due)
                publish_one(lane);
            else if (!publishers[lane].waits && due < until)
                until = due;
        }
        take_events(until);
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
    printf("{\"seconds\": %.6f, \"answered\": %.6f, \"unanswered\": %ld, \"connected\": %d, \"arrived\": %d, "
           "\"events\": %lu, \"wrong\": %lu, \"refused\": %lu, \"closed\": %lu, \"load\": %.6f, \"p50\": %.6f, "
           "\"p99\": %.6f, \"longest\": %.6f, \"complaint\": \"%s\"}\n",
           (now() - began) / 1e9, last_answer > began ? (last_answer - began) / 1e9 : 0, unanswered, connected,
           arrived, events, wrong, refused, closed,
           seconds(usage.ru_utime) - seconds(before.ru_utime) + seconds(usage.ru_stime) - seconds(before.ru_stime),
           quantile(events, 0.5), quantile(events, 0.99), longest / 1e9, complaint);
    fflush(stdout);
    before = usage;
    events = longest = 0;
    memset(latencies, 0, sizeof latencies);
}

static void obey(const char *command)
{
    int64_t began = now();
    long count;
    int wanted;
    double most, rate;
    if (sscanf(command, "connect %ld %lf", &count, &most) == 2) {
        wanted = opened + count > MOST ? MOST : opened + count;
        while ((opened < wanted || connecting) && now() < began + most * 1e9) {
            while (opened < wanted && connecting < WINDOW)
                open_one();
            take_events(began + most * 1e9);
        }
    } else if (sscanf(command, "publish %ld %d %lf %lf", &count, &wanted, &rate, &most) == 4) {
        publish_all(count, wanted > MOST_LANES ? MOST_LANES : wanted, rate, began, began + most * 1e9);
    } else if (sscanf(command, "watch %lf", &most) == 1) {
        while (now() < began + most * 1e9)
            take_events(began + most * 1e9);
    } else {
        exit(0);
    }
    report(began);
}

static int read_request(const char *path, char *request)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(1);
    }
    int length = fread(request, 1, REQUEST - 1, file);
    fclose(file);
    request[length] = 0;
    return length;
}

int main(int count, char **arguments)
{
    char input[256], mark[SIZE + 1];
    if (count != 4) {
        fprintf(stderr, "usage: load PORT SUBSCRIBE PUBLISH\n");
        return 2;
    }
    port = atoi(arguments[1]);
    subscribe_length = read_request(arguments[2], subscribe);
    publish_length = read_request(arguments[3], publish);
    memset(mark, '@', SIZE);
    mark[SIZE] = 0;
    data = strstr(publish, mark);
    if (!data) {
        fprintf(stderr, "%s has no place for data\n", arguments[3]);
        return 2;
    }
    memset(data, 'x', SIZE);
    for (int lane = 0; lane < MOST_LANES; lane++)
        next_number[lane] = FIRST;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    alarm(LIFE);
    while (fgets(input, sizeof input, stdin))
        obey(input);
    return 0;
}
