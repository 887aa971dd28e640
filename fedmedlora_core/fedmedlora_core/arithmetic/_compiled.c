/* The loops over the values of an update, compiled: what arrays.py does, in one pass and with the same bytes.
 *
 * PROTOCOL 4.1, 4.2; ADR 0021. Every function checks type and size of the arrays it is given, releases the
 * interpreter's lock while it works, and neither allocates nor keeps anything. Products and sums are those of
 * IEEE 754 in the order written here: the build forbids contraction (-ffp-contract=off), since a fused
 * multiply-add rounds differently, and parties would no longer decode a sum to the same bytes.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16 /* partial sums side by side, so that they fit vector registers; part of the definition */
#define MAGIC 6755399441055744.0 /* 3 * 2^51: leaves a whole number modulo 2^32 in the low half of a double */

/* One version for each width of vector registers, chosen when the module is loaded. */
#if defined(__GNUC__) && defined(__x86_64__) && defined(__gnu_linux__)
#define VECTORISED __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VECTORISED
#endif

/* No iteration reads what another one writes: arrays of a call begin at one place or lie apart (`fit`). */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define INDEPENDENT _Pragma("GCC ivdep")
#else
#define INDEPENDENT
#endif

static inline uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Magnitudes compare like their bits, and a NaN lies above all of them. */
static inline uint32_t larger(uint32_t largest, float value)
{
    uint32_t magnitude = bits_of(value) & 0x7fffffffu;
    return magnitude > largest ? magnitude : largest;
}

static inline float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

VECTORISED static float measure_chunk(const float *values, Py_ssize_t count, double *lanes)
{
    uint32_t largest = 0;
    double sums[LANES] = {0};
    Py_ssize_t whole = count - count % LANES;
    for (Py_ssize_t at = 0; at < whole; at += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            double value = values[at + lane];
            sums[lane] += value * value;
        }
    for (Py_ssize_t at = whole; at < count; at++) {
        double value = values[at];
        sums[at - whole] += value * value;
    }
    for (Py_ssize_t at = 0; at < count; at++)
        largest = larger(largest, values[at]);
    memcpy(lanes, sums, sizeof sums);
    return float_of(largest);
}

VECTORISED static int64_t clip_values(
    const float *values, float *out, Py_ssize_t count, float shrink, float limit)
{
    int64_t beyond = 0;
    INDEPENDENT
    for (Py_ssize_t at = 0; at < count; at++) {
        float value = values[at] * shrink;
        beyond += (value > limit) | (value < -limit);
        value = value < -limit ? -limit : value;
        out[at] = value > limit ? limit : value;
    }
    return beyond;
}

VECTORISED static float encode_values(
    const float *values, const uint32_t *words, uint32_t *out, Py_ssize_t count, double factor, uint32_t mask)
{
    uint32_t largest = 0;
    INDEPENDENT
    for (Py_ssize_t at = 0; at < count; at++) {
        float value = values[at];
        double whole = floor((double)value * factor + (double)words[at] * 0x1p-32) + MAGIC;
        uint64_t bits;
        memcpy(&bits, &whole, sizeof bits);
        largest = larger(largest, value);
        out[at] = (uint32_t)bits & mask;
    }
    return float_of(largest);
}

VECTORISED static void decode_words(
    const uint32_t *total, float *mean, Py_ssize_t count, double factor, int shift)
{
    INDEPENDENT
    for (Py_ssize_t at = 0; at < count; at++) {
        int32_t word = (int32_t)(total[at] << shift) >> shift;
        mean[at] = (float)((double)word * factor);
    }
}

/* Arrays of a call; zeroed, so that all of them can be released whatever was taken. */
typedef struct {
    Py_buffer a, b, c;
} Arrays;

static void release(Arrays *arrays)
{
    PyBuffer_Release(&arrays->a);
    PyBuffer_Release(&arrays->b);
    PyBuffer_Release(&arrays->c);
}

static int misfit(void)
{
    PyErr_SetString(PyExc_ValueError, "the buffers do not fit each other");
    return 0;
}

/* Take a contiguous array of one type; sets the error and returns 0 if it is anything else. */
static int take(PyObject *object, Py_buffer *view, const char *types, Py_ssize_t size, int flags)
{
    if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | flags) != 0)
        return 0;
    if (view->itemsize == size && view->format && strlen(view->format) == 1 && strchr(types, *view->format))
        return 1;
    return misfit();
}

static Py_ssize_t items(const Py_buffer *view)
{
    return view->len / view->itemsize;
}

static int floats(PyObject *object, Py_buffer *view, int flags)
{
    return take(object, view, "f", sizeof(float), flags);
}

static int doubles(PyObject *object, Py_buffer *view, int flags)
{
    return take(object, view, "d", sizeof(double), flags);
}

static int words(PyObject *object, Py_buffer *view, int flags)
{
    return take(object, view, "IL", sizeof(uint32_t), flags);
}

/* Arrays of one length that begin at one place or lie apart; sets the error and returns 0 otherwise. */
static int fit(const Py_buffer *from, const Py_buffer *to)
{
    uintptr_t a = (uintptr_t)from->buf, b = (uintptr_t)to->buf;
    size_t size = (size_t)from->len;
    return (from->len == to->len && (a == b || a + size <= b || b + size <= a)) || misfit();
}

static PyObject *measure(PyObject *module, PyObject *args)
{
    PyObject *values, *squares, *largest, *result = NULL;
    Py_ssize_t chunk;
    Arrays in = {0};
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOn", &values, &squares, &largest, &chunk))
        return NULL;
    if (floats(values, &in.a, 0) && doubles(squares, &in.b, PyBUF_WRITABLE) &&
        floats(largest, &in.c, PyBUF_WRITABLE)) {
        Py_ssize_t count = items(&in.a);
        Py_ssize_t chunks = chunk > 0 ? count / chunk + (count % chunk != 0) : -1;
        if ((chunks >= 0 && items(&in.b) == chunks * LANES && items(&in.c) == chunks) || misfit()) {
            const float *from = in.a.buf;
            double *sums = in.b.buf;
            float *most = in.c.buf;
            Py_BEGIN_ALLOW_THREADS
            for (Py_ssize_t k = 0; k < chunks; k++) {
                Py_ssize_t first = k * chunk, left = count - first;
                most[k] = measure_chunk(from + first, left < chunk ? left : chunk, sums + k * LANES);
            }
            Py_END_ALLOW_THREADS
            result = Py_NewRef(Py_None);
        }
    }
    release(&in);
    return result;
}

static PyObject *clip(PyObject *module, PyObject *args)
{
    PyObject *values, *out, *result = NULL;
    float shrink, limit;
    Arrays in = {0};
    (void)module;
    if (!PyArg_ParseTuple(args, "OOff", &values, &out, &shrink, &limit))
        return NULL;
    if (floats(values, &in.a, 0) && floats(out, &in.b, PyBUF_WRITABLE) && fit(&in.a, &in.b)) {
        int64_t beyond;
        Py_BEGIN_ALLOW_THREADS
        beyond = clip_values(in.a.buf, in.b.buf, items(&in.a), shrink, limit);
        Py_END_ALLOW_THREADS
        result = PyLong_FromLongLong(beyond);
    }
    release(&in);
    return result;
}

static PyObject *encode(PyObject *module, PyObject *args)
{
    PyObject *values, *stream, *out, *result = NULL;
    double factor;
    unsigned int mask;
    Arrays in = {0};
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOdI", &values, &stream, &out, &factor, &mask))
        return NULL;
    if (floats(values, &in.a, 0) && words(stream, &in.b, 0) && words(out, &in.c, PyBUF_WRITABLE) &&
        fit(&in.a, &in.c) && fit(&in.b, &in.c)) {
        float largest;
        Py_BEGIN_ALLOW_THREADS
        largest = encode_values(in.a.buf, in.b.buf, in.c.buf, items(&in.a), factor, mask);
        Py_END_ALLOW_THREADS
        result = PyFloat_FromDouble(largest);
    }
    release(&in);
    return result;
}

static PyObject *decode(PyObject *module, PyObject *args)
{
    PyObject *total, *mean, *result = NULL;
    double factor;
    int bits;
    Arrays in = {0};
    (void)module;
    if (!PyArg_ParseTuple(args, "OOdi", &total, &mean, &factor, &bits))
        return NULL;
    if (words(total, &in.a, 0) && floats(mean, &in.b, PyBUF_WRITABLE) &&
        fit(&in.a, &in.b) && ((bits > 0 && bits <= 32) || misfit())) {
        Py_BEGIN_ALLOW_THREADS
        decode_words(in.a.buf, in.b.buf, items(&in.a), factor, 32 - bits);
        Py_END_ALLOW_THREADS
        result = Py_NewRef(Py_None);
    }
    release(&in);
    return result;
}

static PyMethodDef methods[] = {
    {"measure", measure, METH_VARARGS, "Sum the squares of every chunk and find its largest magnitude."},
    {"clip", clip, METH_VARARGS, "Shrink and clip values; returns how many lay beyond the limit."},
    {"encode", encode, METH_VARARGS, "Round values into the ring; returns the largest magnitude."},
    {"decode", decode, METH_VARARGS, "Read words of the ring as signed numbers and scale them."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_compiled",
    .m_doc = "The loops over the values of an update, compiled.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__compiled(void)
{
    return PyModuleDef_Init(&definition);
}
