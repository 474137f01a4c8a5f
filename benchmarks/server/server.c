/*
 * The provider API's server for benchmarks/http2.py: as fast as libnghttp2 and OpenSSL are, in one thread.
 *
 *     server PORT CERTIFICATE KEY STREAMS DELAY HOLD MOST
 *
 * It listens on 127.0.0.1 (port 0 picks one), prints the port, and runs until it is terminated. CERTIFICATE and KEY are
 * PEM files; STREAMS is the MAX_CONCURRENT_STREAMS that it announces; DELAY is how long a response takes, in ms. The
 * response is 410 for a token that begins with "dd", otherwise 200, with the request's apns-id or a new one; nothing else
 * is checked. The connection's window is HTTP/2's 65,535 bytes. They are given back as they are read or, if HOLD is 1,
 * with the response to their request. A connection is ended by GOAWAY after MOST requests, as nginx does after 1,000; 0
 * is never.
 *
 * All responses of a connection take equally long, so those that are due are at the head of a queue, and the server sleeps
 * until the first of them.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS = 64, BUFFER = 1 << 16, RECORD = 1 << 14, ID = 36 };

static const char GONE[] = "{\"reason\":\"Unregistered\",\"timestamp\":1700000000000}";
static const char PREFIX[] = "/3/device/";

struct request {
    int64_t due; /* when it is answered */
    int32_t stream;
    uint32_t octets; /* of its body */
    int dead;
    char id[ID + 1];
};

struct connection {
    int fd;
    int events; /* what epoll looks for */
    SSL *ssl;
    nghttp2_session *session;
    struct request *queue; /* a ring */
    size_t size, first, waiting;
    uint32_t owed; /* bytes to give back to its window */
    uint64_t taken; /* requests */
    int ended; /* nothing more is written, and what still comes is dropped */
    uint8_t out[BUFFER];
    size_t out_length, out_sent;
};

static struct connection *connections[CONNECTIONS];
static int poller, hold;
static int64_t delay;
static uint64_t answered, most;

static void fail(const char *what) {
    perror(what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* Responses. */

static ssize_t read_body(nghttp2_session *session, int32_t stream, uint8_t *buffer, size_t length, uint32_t *flags,
                         nghttp2_data_source *source, void *data) {
    (void)session, (void)stream, (void)length, (void)source, (void)data;
    memcpy(buffer, GONE, sizeof GONE - 1);
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    return sizeof GONE - 1;
}

static void answer(struct connection *connection, struct request *request) {
    nghttp2_data_provider body = {{0}, read_body};
    if (!request->id[0])
        snprintf(request->id, sizeof request->id, "a5c2d9e0-0000-4000-8000-%012llx", (unsigned long long)++answered);
    nghttp2_nv fields[] = {
        {(uint8_t *)":status", (uint8_t *)(request->dead ? "410" : "200"), 7, 3, NGHTTP2_NV_FLAG_NONE},
        {(uint8_t *)"apns-id", (uint8_t *)request->id, 7, ID, NGHTTP2_NV_FLAG_NONE},
    };
    nghttp2_submit_response(connection->session, request->stream, fields, 2, request->dead ? &body : NULL);
    connection->owed += request->octets;
}

static void postpone(struct connection *connection, struct request *request) {
    if (connection->waiting == connection->size) {
        size_t size = connection->size ? 2 * connection->size : 1024;
        struct request *queue = malloc(size * sizeof *queue);
        for (size_t index = 0; index < connection->waiting; index++)
            queue[index] = connection->queue[(connection->first + index) % connection->size];
        free(connection->queue);
        connection->queue = queue, connection->size = size, connection->first = 0;
    }
    request->due = now() + delay;
    connection->queue[(connection->first + connection->waiting++) % connection->size] = *request;
}

/* Submits the responses that are due; returns when the next one is due, or 0 if there is none. */
static int64_t answer_due(struct connection *connection, int64_t time) {
    while (connection->waiting) {
        struct request *next = &connection->queue[connection->first];
        if (next->due > time)
            return next->due;
        answer(connection, next);
        connection->first = (connection->first + 1) % connection->size;
        connection->waiting--;
    }
    return 0;
}

/* Requests. libnghttp2 keeps each with its stream until it is complete. */

static int on_begin(nghttp2_session *session, const nghttp2_frame *frame, void *data) {
    (void)data;
    if (!nghttp2_session_get_stream_user_data(session, frame->hd.stream_id)) {
        struct request *request = calloc(1, sizeof *request);
        request->stream = frame->hd.stream_id;
        nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, request);
    }
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
                     const uint8_t *value, size_t value_length, uint8_t flags, void *data) {
    (void)flags, (void)data;
    size_t prefix = sizeof PREFIX - 1;
    struct request *request = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (name_length == 5 && !memcmp(name, ":path", 5) && value_length >= prefix + 2)
        request->dead = !memcmp(value + prefix, "dd", 2);
    else if (name_length == 7 && !memcmp(name, "apns-id", 7) && value_length == ID)
        memcpy(request->id, value, ID);
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *data) {
    struct connection *connection = data;
    struct request *request = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (!request)
        return 0;
    if (frame->hd.type == NGHTTP2_DATA)
        request->octets += frame->hd.length;
    if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    if (delay)
        postpone(data, request);
    else
        answer(data, request);
    nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, NULL);
    free(request);
    if (++connection->taken == most)
        nghttp2_submit_goaway(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR, NULL, 0);
    return 0;
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t code, void *data) {
    (void)code, (void)data;
    free(nghttp2_session_get_stream_user_data(session, stream));
    return 0;
}

/* Connections. */

static void watch(struct connection *connection, int events) {
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (connection->events != events)
        epoll_ctl(poller, connection->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, connection->fd, &event);
    connection->events = events;
}

static void forget(struct connection *connection) {
    for (int index = 0; index < CONNECTIONS; index++)
        if (connections[index] == connection)
            connections[index] = NULL;
    nghttp2_session_del(connection->session);
    SSL_free(connection->ssl);
    close(connection->fd);
    free(connection->queue);
    free(connection);
}

static void give_back(struct connection *connection) {
    if (hold && connection->owed)
        nghttp2_submit_window_update(connection->session, NGHTTP2_FLAG_NONE, 0, connection->owed);
    connection->owed = 0;
}

/* Collects frames into whole TLS records, and writes them; returns whether the connection is still good. */
static int write_out(struct connection *connection) {
    give_back(connection);
    while (SSL_is_init_finished(connection->ssl)) {
        while (connection->out_length < RECORD) {
            const uint8_t *frame;
            ssize_t length = nghttp2_session_mem_send(connection->session, &frame);
            if (length < 0)
                return 0;
            if (length == 0)
                break;
            memcpy(connection->out + connection->out_length, frame, length); /* a frame has at most 16 KB */
            connection->out_length += length;
        }
        if (connection->out_length == 0) {
            watch(connection, EPOLLIN);
            if (!nghttp2_session_want_read(connection->session) && !connection->ended) {
                connection->ended = 1; /* not closed: that would reset it, and the last responses might be lost */
                SSL_shutdown(connection->ssl);
                shutdown(connection->fd, SHUT_WR);
            }
            return 1;
        }
        int length = connection->out_length - connection->out_sent;
        int sent = SSL_write(connection->ssl, connection->out + connection->out_sent, length);
        if (sent <= 0) {
            watch(connection, EPOLLIN | EPOLLOUT);
            return SSL_get_error(connection->ssl, sent) == SSL_ERROR_WANT_WRITE;
        }
        connection->out_sent += sent;
        if (connection->out_sent == connection->out_length)
            connection->out_sent = connection->out_length = 0;
    }
    return 1;
}

/* Reads all there is, a limited number of times; returns whether the connection is still good. */
static int read_in(struct connection *connection) {
    static uint8_t buffer[RECORD];
    for (int times = 0; times < 16 || SSL_pending(connection->ssl); times++) {
        int length = SSL_read(connection->ssl, buffer, sizeof buffer);
        if (length <= 0)
            return SSL_get_error(connection->ssl, length) == SSL_ERROR_WANT_READ;
        if (!connection->ended && nghttp2_session_mem_recv(connection->session, buffer, length) < 0)
            return 0;
    }
    return 1;
}

static nghttp2_session *new_session(struct connection *connection, uint32_t streams) {
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    nghttp2_session *session;
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, streams}};
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_option_new(&option);
    nghttp2_option_set_no_auto_window_update(option, hold);
    nghttp2_session_server_new2(&session, callbacks, connection, option);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, 1);
    return session;
}

static void accept_one(int listener, SSL_CTX *tls, uint32_t streams) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    int index = 0;
    while (index < CONNECTIONS && connections[index])
        index++;
    if (fd < 0 || index == CONNECTIONS) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    struct connection *connection = calloc(1, sizeof *connection);
    connection->fd = fd;
    connection->ssl = SSL_new(tls);
    SSL_set_fd(connection->ssl, fd);
    SSL_set_accept_state(connection->ssl);
    connection->session = new_session(connection, streams);
    connections[index] = connection;
    watch(connection, EPOLLIN);
}

/* Writes the responses that are due; returns how long to sleep, in ns, or -1 for until something arrives. */
static int64_t answer_all(void) {
    int64_t next = 0, time = now();
    for (int index = 0; index < CONNECTIONS; index++) {
        struct connection *connection = connections[index];
        if (!connection || !connection->waiting)
            continue;
        int64_t due = answer_due(connection, time);
        if (due && (!next || due < next))
            next = due;
        if (!write_out(connection))
            forget(connection);
    }
    return !next ? -1 : next > time ? next - time : 0;
}

/* Setting up. */

static int choose_h2(SSL *ssl, const unsigned char **out, unsigned char *length, const unsigned char *offered,
                     unsigned int offered_length, void *data) {
    (void)ssl, (void)data;
    int found = SSL_select_next_proto((unsigned char **)out, length, (const unsigned char *)"\x02h2", 3, offered,
                                      offered_length);
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static SSL_CTX *new_tls(const char *certificate, const char *key) {
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_alpn_select_cb(tls, choose_h2, NULL);
    if (SSL_CTX_use_certificate_chain_file(tls, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
        fail("certificate");
    return tls;
}

static int listen_at(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, CONNECTIONS))
        fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(int count, char **arguments) {
    if (count != 8)
        return fprintf(stderr, "usage: %s PORT CERTIFICATE KEY STREAMS DELAY HOLD MOST\n", arguments[0]), 2;
    signal(SIGPIPE, SIG_IGN);
    uint32_t streams = strtoul(arguments[4], NULL, 10);
    delay = strtol(arguments[5], NULL, 10) * 1000000LL;
    hold = atoi(arguments[6]);
    most = strtoull(arguments[7], NULL, 10);
    SSL_CTX *tls = new_tls(arguments[2], arguments[3]);
    poller = epoll_create1(0);
    int listener = listen_at(atoi(arguments[1]));
    struct epoll_event events[CONNECTIONS], listening = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &listening);
    for (;;) {
        int64_t sleep = answer_all();
        struct timespec timeout = {sleep / 1000000000, sleep % 1000000000};
        int ready = epoll_pwait2(poller, events, CONNECTIONS, sleep < 0 ? NULL : &timeout, NULL);
        ERR_clear_error(); /* a closed connection may have left some */
        for (int index = 0; index < ready; index++) {
            struct connection *connection = events[index].data.ptr;
            if (!connection)
                accept_one(listener, tls, streams);
            else if (!read_in(connection) || !write_out(connection))
                forget(connection);
        }
    }
}
