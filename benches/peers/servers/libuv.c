/* An echo server on libuv: one loop, one read buffer, and what was read is written at once with
 * uv_try_write; only what the socket did not take is copied and queued. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define BUFFER_LEN (64 * 1024)
#define BACKLOG 4096

static char buffer[BUFFER_LEN];

static void must(int result) {
    if (result < 0) {
        fprintf(stderr, "libuv: %s\n", uv_strerror(result));
        exit(1);
    }
}

static void on_close(uv_handle_t *handle) { free(handle); }

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf) {
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(buffer, BUFFER_LEN);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf);

static void on_written(uv_write_t *request, int status) {
    uv_stream_t *stream = request->handle;
    free(request);
    if (uv_is_closing((uv_handle_t *)stream)) return;
    if (status < 0)
        uv_close((uv_handle_t *)stream, on_close);
    else
        must(uv_read_start(stream, on_alloc, on_read));
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf) {
    if (len == 0) return;
    if (len < 0) {
        uv_close((uv_handle_t *)stream, on_close);
        return;
    }
    uv_buf_t out = uv_buf_init(buf->base, (unsigned)len);
    int sent = uv_try_write(stream, &out, 1);
    if (sent == UV_EAGAIN) sent = 0;
    if (sent < 0) {
        uv_close((uv_handle_t *)stream, on_close);
        return;
    }
    if (sent == len) return;
    /* Nothing more is read until this is written. The copy lies behind its request. */
    size_t rest = (size_t)(len - sent);
    uv_write_t *request = malloc(sizeof *request + rest);
    if (request == NULL) abort();
    char *copy = (char *)(request + 1);
    memcpy(copy, buf->base + sent, rest);
    out = uv_buf_init(copy, (unsigned)rest);
    must(uv_read_stop(stream));
    must(uv_write(request, stream, &out, 1, on_written));
}

static void on_connection(uv_stream_t *server, int status) {
    if (status < 0) return;
    uv_tcp_t *client = malloc(sizeof *client);
    if (client == NULL) abort();
    must(uv_tcp_init(server->loop, client));
    if (uv_accept(server, (uv_stream_t *)client) == 0) {
        must(uv_tcp_nodelay(client, 1));
        must(uv_read_start((uv_stream_t *)client, on_alloc, on_read));
    } else {
        uv_close((uv_handle_t *)client, on_close);
    }
}

int main(void) {
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t server;
    struct sockaddr_in address;
    int len = sizeof address;
    must(uv_ip4_addr("127.0.0.1", 0, &address));
    must(uv_tcp_init(loop, &server));
    must(uv_tcp_bind(&server, (const struct sockaddr *)&address, 0));
    must(uv_listen((uv_stream_t *)&server, BACKLOG, on_connection));
    must(uv_tcp_getsockname(&server, (struct sockaddr *)&address, &len));
    printf("listening tcp://127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}
