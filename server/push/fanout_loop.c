/* The same bytes to many sockets: one send() for each, and nothing in between.
 *
 * Built by `python -m server.build_native FILE` (or `make native`) where there is a compiler; without it,
 * transports do the same. What may be written to behind a transport's back is decided in cohort.py. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <sys/socket.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

static Py_ssize_t sent_to(int fd, const char *frame, Py_ssize_t size) {
    ssize_t sent;
    if (fd < 0) return 0;
    do sent = send(fd, frame, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    /* Whatever is wrong with the socket, its transport finds it out by itself, and tells its protocol. */
    return sent < 0 ? 0 : sent;
}

static int note(PyObject *rest, Py_ssize_t place, Py_ssize_t sent) {
    PyObject *pair = Py_BuildValue("(nn)", place, sent);
    if (pair == NULL) return -1;
    int failed = PyList_Append(rest, pair);
    Py_DECREF(pair);
    return failed;
}

static PyObject *send_all(PyObject *self, PyObject *arguments) {
    Py_buffer fds, frame;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "y*y*", &fds, &frame)) return NULL;
    PyObject *rest = PyList_New(0);
    Py_ssize_t count = fds.len / (Py_ssize_t)sizeof(int);
    for (Py_ssize_t place = 0; rest != NULL && place < count; place++) {
        Py_ssize_t sent = sent_to(((const int *)fds.buf)[place], frame.buf, frame.len);
        if (sent != frame.len && note(rest, place, sent) != 0) Py_CLEAR(rest);
    }
    PyBuffer_Release(&fds);
    PyBuffer_Release(&frame);
    return rest;
}

static PyMethodDef METHODS[] = {
    {"send_all", send_all, METH_VARARGS, "send_all(fds, frame) -> [(place, sent), ...] of those who took less than all."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "fanout_loop", NULL, -1, METHODS, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_fanout_loop(void) { return PyModule_Create(&MODULE); }
