/* A C program that embeds CPython and runs a script: the interpreter is in libpython and
 * the program is named nothing like python.
 *
 * usage: embed [--thread] SCRIPT [ARGS...]
 *
 * --thread: the script runs in a second native thread, so that the interpreter's main
 * thread state has no frames and is not the process's busy thread.
 * The interpreter finds its library by PYTHONHOME.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <libgen.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static int check(PyStatus status)
{
    if (PyStatus_Exception(status)) {
        fprintf(stderr, "embed: %s\n", status.err_msg ? status.err_msg : "could not start");
        return -1;
    }
    return 0;
}

static int start(int argc, char **argv)
{
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    config.parse_argv = 0;
    if (check(PyConfig_SetBytesArgv(&config, argc, argv)) < 0)
        return -1;
    int failed = check(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
    return failed;
}

/* What the python program does too: the script's directory comes first in sys.path. */
static int find_neighbours(const char *script)
{
    char *copy = strdup(script);
    PyObject *directory = PyUnicode_DecodeFSDefault(dirname(copy));
    free(copy);
    PyObject *path = PySys_GetObject("path");
    int failed = !directory || !path || PyList_Insert(path, 0, directory) < 0;
    Py_XDECREF(directory);
    return failed ? -1 : 0;
}

static int run(const char *script)
{
    FILE *file = fopen(script, "rb");
    if (!file) {
        perror(script);
        return 1;
    }
    if (find_neighbours(script) < 0) {
        PyErr_Print();
        return 1;
    }
    return PyRun_SimpleFileExFlags(file, script, 1, NULL) < 0;
}

static void *run_in_thread(void *script)
{
    PyGILState_STATE state = PyGILState_Ensure();
    long failed = run(script);
    PyGILState_Release(state);
    return (void *)failed;
}

int main(int argc, char **argv)
{
    int threaded = argc > 1 && strcmp(argv[1], "--thread") == 0;
    argc -= 1 + threaded;
    argv += 1 + threaded;
    if (argc < 1) {
        fprintf(stderr, "usage: embed [--thread] SCRIPT [ARGS...]\n");
        return 2;
    }
    if (start(argc, argv) < 0)
        return 1;
    if (!threaded)
        return run(argv[0]);

    pthread_t thread;
    void *failed = (void *)1;
    Py_BEGIN_ALLOW_THREADS
    if (pthread_create(&thread, NULL, run_in_thread, argv[0]) == 0)
        pthread_join(thread, &failed);
    Py_END_ALLOW_THREADS
    return failed != NULL;
}
