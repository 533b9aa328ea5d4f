// EnCodec's decoder in native code: convolutions, and an LSTM between them.
//
// A convolution is a product with a matrix. The numbers of a row, one moment of the audio, lie side
// by side, so the rows that an output depends on are one run of numbers, and runs may overlap:
// nothing is copied to unfold them. A transposed convolution is one too: its stride makes several
// rows of each two, which lie side by side as well.
//
// A frame of the LSTM waits for the one before, so its weights are read for each frame. They are
// int16 there, half the bytes of float32. Everything else is float32. Each sum has one order, for
// any number of threads.
//
// Source of the architecture: audiocraft modules/seanet.py, conv.py and lstm.py.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lanes.h"
#include "matrix.h"
#include "memory.h"
#include "pool.h"

constexpr int ROWS = 64;  // that a thread takes at a time: they stay in its cache for all outputs

enum class Place : int32_t {
    REPLACE,  // the output replaces the input
    BRANCH,   // the input is kept
    JOIN,     // the output is added to what was kept
};

extern "C" {

// A block of `hop` output rows depends on `taps` input rows; the next block on those `step`
// further. `left` and `right`: rows of padding, zeros or a reflection. The first `lead` output
// rows, and what is behind the last, are dropped. Inputs, and hop times outputs: multiples of 16.
struct ConvolutionShape {
    int32_t inputs, outputs;  // numbers of a row
    int32_t taps, step, hop, left, right, lead;
    int32_t reflect, elu;  // whether an ELU comes before it
    Place place;
};
}

__attribute__((always_inline)) inline Floats elu(const Floats& x) {
    return larger(exponential(smaller(x, 0.0f)) - 1.0f, x);
}
inline Floats sigmoid(const Floats& x) { return Floats(1.0f) / (exponential(0.0f - x) + 1.0f); }
inline Floats tanh(const Floats& x) { return sigmoid(x * 2.0f) * 2.0f - 1.0f; }

struct Convolution {
    ConvolutionShape shape;
    Matrix matrix;  // [hop * outputs, taps * inputs]

    int padded(int rows) const { return shape.left + rows + shape.right; }
    int blocks(int rows) const { return (padded(rows) - shape.taps) / shape.step + 1; }
    int made(int rows) const { return rows * shape.hop / shape.step; }

    // Row `row` of the padded input.
    void pad(const float* x, int rows, int row, float* to) const {
        int from = row - shape.left;
        if (shape.reflect) {  // a short input gets zeros behind it first
            const int most = shape.left > shape.right ? shape.left : shape.right;
            const int last = rows > most ? rows - 1 : most;
            from = abs(from) > last ? 2 * last - abs(from) : abs(from);
        }
        if (from < 0 || from >= rows) {
            memset(to, 0, shape.inputs * sizeof(float));
            return;
        }
        x += (size_t)from * shape.inputs;
        for (int i = 0; i < shape.inputs; i += LANES) {
            const Floats v = Floats::load(x + i);
            (shape.elu ? elu(v) : v).store(to + i);
        }
    }
};

// 16 units of a layer have their weights together: inputs, then gates in torch's order.
struct LstmLayer {
    int units;
    Matrix input;        // [4 * units, units], with both biases
    int16_t* recurrent;  // [units / 16, units, 4, 16]
    float* scales;       // [units / 16, 4, 16]

    void pack(int tile, const float* source) const {  // float32 [4 * units, units]
        for (int i = 0; i < 4 * LANES; i++) {
            const size_t output = (size_t)i / LANES * units + tile * LANES + i % LANES;
            const float* w = source + output * units;
            const float most = peak(w, units), steps = most > 1e-30f ? 32767.0f / most : 0.0f;
            scales[tile * 4 * LANES + i] = most / 32767.0f;
            int16_t* to = recurrent + (size_t)tile * units * 4 * LANES + i;
            for (int j = 0; j < units; j++)
                to[j * 4 * LANES] = steps > 0 ? (int16_t)rintf(w[j] * steps) : 0;
        }
    }

    // A frame of 16 units. `gates`: [4 * units], what the input makes of them.
    void step(int tile, const float* gates, const float* before, float* cell, float* out) const {
        const int16_t* w = recurrent + (size_t)tile * units * 4 * LANES;
        Floats gate[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        for (int i = 0; i < units; i++, w += 4 * LANES) {
            __builtin_prefetch((const char*)w + AHEAD);
            __builtin_prefetch((const char*)w + AHEAD + 64);
            const Floats h = before[i];
#pragma GCC unroll 4
            for (int g = 0; g < 4; g++)
                gate[g] = multiply_add(Floats::load(w + g * LANES), h, gate[g]);
        }
        const int unit = tile * LANES;
        for (int g = 0; g < 4; g++)
            gate[g] = multiply_add(gate[g], Floats::load(scales + (tile * 4 + g) * LANES),
                                   Floats::load(gates + g * units + unit));
        const Floats kept = sigmoid(gate[1]) * Floats::load(cell + unit);
        const Floats c = multiply_add(sigmoid(gate[0]), tanh(gate[2]), kept);
        c.store(cell + unit);
        (sigmoid(gate[3]) * tanh(c)).store(out + unit);
    }
};

struct Stack {
    Convolution* start;
    int count;

    Convolution* begin() const { return start; }
    Convolution* end() const { return start + count; }
};

struct Codec {
    Pool pool;
    Memory memory;
    Stack stacks[2];  // before and after the LSTM
    LstmLayer* lstm;
    int layers, units;

    Memory scratch;
    float* numbers;
    size_t room;  // of the largest call so far

    Matrix matrix(const float* source, const float* bias, int outputs, int inputs) {
        Matrix matrix = {};
        matrix.outputs = outputs, matrix.inputs = inputs;
        matrix.floats = memory.take<float>((size_t)outputs * inputs);
        matrix.bias = memory.copy(bias, outputs);
        pool.run(outputs / LANES, [&](int tile, int) { matrix.pack(tile, source); });
        return matrix;
    }

    // Memory for a call.
    float* take(size_t count) {
        if (count > room) {
            scratch.free();
            numbers = scratch.take<float>(room = count);
        }
        return numbers;
    }

    // The products of `count` rows of inputs, which begin `stride` numbers apart → y [count,
    // outputs].
    void multiply(const Matrix& matrix, const float* x, int stride, int count, Then then,
                  float* y) {
        const int tiles = matrix.outputs / LANES;
        pool.run((count + ROWS - 1) / ROWS * tiles, [&](int item, int) {
            const int first = item / tiles * ROWS;
            const int rows = count - first < ROWS ? count - first : ROWS;
            const Inputs inputs = {stride, (float*)x + (size_t)first * stride, nullptr, nullptr,
                                   nullptr};
            float* to[ROWS];
            for (int row = 0; row < rows; row++)
                to[row] = y + (size_t)(first + row) * matrix.outputs;
            matrix.multiply(item % tiles, item % tiles + 1, inputs, rows, then, to);
        });
    }

    // x [rows, inputs of the first convolution], output [rows, outputs of the last]
    void convolve(const Stack& stack, int rows, const float* x, float* output) {
        size_t in = 0, out = 0;  // the most numbers of a padded input, and of an output
        int count = rows;
        for (const Convolution& one : stack) {
            const size_t padded = (size_t)one.padded(count) * one.shape.inputs;
            const size_t made = (size_t)one.blocks(count) * one.matrix.outputs;
            in = padded > in ? padded : in;
            out = made > out ? made : out;
            count = one.made(count);
        }
        float *padded = take(in + 2 * out), *made = padded + in, *branch = made + out;
        float* kept = nullptr;
        for (const Convolution& one : stack) {
            const ConvolutionShape& s = one.shape;
            const int all = one.padded(rows);
            pool.run((all + ROWS - 1) / ROWS, [&](int item, int) {
                const int first = item * ROWS, end = all - first < ROWS ? all : first + ROWS;
                for (int row = first; row < end; row++)
                    one.pad(x, rows, row, padded + (size_t)row * s.inputs);
            });
            if (s.place == Place::BRANCH) kept = (float*)x;
            float* y = s.place == Place::REPLACE ? made : s.place == Place::BRANCH ? branch : kept;
            multiply(one.matrix, padded, s.step * s.inputs, one.blocks(rows),
                     s.place == Place::JOIN ? Then::ADD : Then::STORE, y);
            x = y + (size_t)s.lead * s.outputs;
            rows = one.made(rows);
        }
        memcpy(output, x, (size_t)rows * stack.end()[-1].shape.outputs * sizeof(float));
    }

    // x, y: [frames, rows, units]; hidden, cell: the state [layers, rows, units].
    void recur(int frames, int rows, const float* x, float* hidden, float* cell, float* y) {
        const size_t frame = (size_t)rows * units;
        float* gates = take(4 * frames * frame);
        for (int layer = 0; layer < layers; layer++, hidden += frame, cell += frame, x = y) {
            const LstmLayer& one = lstm[layer];
            multiply(one.input, x, units, frames * rows, Then::STORE, gates);
            const float* before = hidden;
            for (int t = 0; t < frames; t++, before = y + (t - 1) * frame)
                pool.run(units / LANES, [&](int tile, int) {
                    for (int row = 0; row < rows; row++) {
                        const size_t at = (size_t)row * units;
                        one.step(tile, gates + 4 * (t * frame + at), before + at, cell + at,
                                 y + t * frame + at);
                    }
                });
            memcpy(hidden, before, frame * sizeof(float));
        }
    }
};

// The C interface. The caller checks sizes and numbers. One thread at a time uses a codec.

extern "C" {

// `before` and `after`: the number of convolutions.
Codec* codec_new(int32_t before, int32_t layers, int32_t units, int32_t after, int32_t threads) {
    Memory memory = {};
    Codec* codec = memory.take<Codec>(1);
    codec->memory = memory;
    codec->stacks[0] = {codec->memory.take<Convolution>(before), before};
    codec->stacks[1] = {codec->memory.take<Convolution>(after), after};
    codec->lstm = codec->memory.take<LstmLayer>(layers);
    codec->layers = layers;
    codec->units = units;
    codec->pool.start(threads);
    return codec;
}

void codec_free(Codec* codec) {
    codec->pool.stop();
    codec->scratch.free();
    Memory memory = codec->memory;  // the codec lies in it
    memory.free();
}

// Stack 0 is before the LSTM, 1 after it. Float32 weight [hop * outputs, taps * inputs], bias [hop
// * outputs].
void codec_set_convolution(Codec* codec, int32_t stack, int32_t index,
                           const ConvolutionShape* shape, const float* weight, const float* bias) {
    Convolution& one = codec->stacks[stack].start[index];
    one.shape = *shape;
    one.matrix =
        codec->matrix(weight, bias, shape->hop * shape->outputs, shape->taps * shape->inputs);
}

// Weights [4 * units, units]; bias [4 * units], the sum of both.
void codec_set_lstm(Codec* codec, int32_t index, const float* input, const float* recurrent,
                    const float* bias) {
    const int units = codec->units;
    LstmLayer& one = codec->lstm[index];
    one.units = units;
    one.input = codec->matrix(input, bias, 4 * units, units);
    one.recurrent = codec->memory.take<int16_t>((size_t)4 * units * units);
    one.scales = codec->memory.take<float>((size_t)4 * units);
    codec->pool.run(units / LANES, [&](int tile, int) { one.pack(tile, recurrent); });
}

void codec_convolve(Codec* codec, int32_t stack, int32_t rows, const float* x, float* y) {
    codec->convolve(codec->stacks[stack], rows, x, y);
}

void codec_recur(Codec* codec, int32_t frames, int32_t rows, const float* x, float* hidden,
                 float* cell, float* y) {
    codec->recur(frames, rows, x, hidden, cell, y);
}
}
