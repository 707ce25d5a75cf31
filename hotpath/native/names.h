/* Names of methods that are called again and again, and calls of them. */
#ifndef HOTPATH_NAMES_H
#define HOTPATH_NAMES_H

#include "native.h"

typedef struct {
    PyObject *append, *popleft, *opening, *pump, *has_more, *mark, *submit, *answer_late;
} Names;

extern Names names;

/* Make the names; -1 with an exception set. */
int names_make(void);

static inline PyObject *
call_method(PyObject *object, PyObject *name, PyObject *argument)
{
    PyObject *given[] = {object, argument};
    return PyObject_VectorcallMethod(name, given, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

#endif
