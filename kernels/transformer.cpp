// MusicGen's transformer as one native call: embeddings, all layers, heads.
//
// A decode step is a read of the weights, so matrices may be int8 (a quarter of float32), and one
// call replaces a thousand small operations.
//
// A row of a pass is one position of one guidance row of one sequence. Each sum has one order,
// which depends on the row alone: a row is the same to the bit for any batch mates, number of
// threads and chunks of a prefill. build.py compiles this file once for each instruction set, with
// its options. It needs the C library and POSIX threads only.
//
// Source of the architecture: audiocraft models/lm.py and modules/transformer.py.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "matrix.h"
#include "memory.h"
#include "norm.h"
#include "pool.h"
#include "text.h"

constexpr int SPAN = 4;  // tiles that a thread takes at a time: memory is read faster in long runs

extern "C" {

// Sizes of a model. dim, ffn_dim, those of a head and all outputs of the heads: multiples of 16.
struct Shape {
    int32_t layers, dim, heads, ffn_dim, codebooks, vocab_size;
    int32_t rotary, cross_attention, int8;
    int32_t guidance_rows, slots, positions;
    int32_t max_rows, max_tokens;  // rows of the largest pass, tokens of the longest text
};

// Float32 tensors of a layer; matrices are [outputs, inputs]. Without cross-attention those of
// `cross` are null.
struct AttentionTensors {
    const float *norm_weight, *norm_bias, *qkv, *out;
};
struct LayerTensors {
    AttentionTensors self, cross;
    const float *norm_weight, *norm_bias, *ffn_in, *ffn_out;
};
}

struct Layer {
    Norm norm, cross_norm, ffn_norm;
    Matrix qkv, out, cross_queries, cross_keys_values, cross_out, ffn_in, ffn_out;
};

struct Slot {
    int rows;             // guidance rows
    int prefix;           // positions before the codes
    const float* before;  // what stands there: [rows, prefix, dim]
};

struct Row {
    int slot, guidance, position;
};

struct Model {
    Shape shape;
    Pool pool;
    Memory memory;

    Layer* layers;
    Norm norm_out;
    Matrix heads;
    float* embeddings;  // [codebooks, vocab_size + 1, dim]
    float* positions;   // sinusoids [positions, dim], or rotations [positions, 2, head_dim]
    Slot* slots;
    Text* texts;  // [slots, guidance_rows]
    Cache cache;  // a row for each layer, slot and guidance row

    // Of one pass.
    Row* rows;
    int* with_text;  // the rows that have a text
    int* last;       // the rows of last positions
    float* x;        // [max_rows, dim]
    float* y;        // [max_rows, widest]: queries, keys and values
    Inputs inputs;   // [max_rows, widest]
    float** to;      // [max_rows], where the outputs of a matrix go
    float* weights;  // [threads, longest], of attention

    int head_dim() const { return shape.dim / shape.heads; }

    int widest() const { return 3 * shape.dim > shape.ffn_dim ? 3 * shape.dim : shape.ffn_dim; }

    int longest() const {
        const int most = shape.positions > shape.max_tokens ? shape.positions : shape.max_tokens;
        return (most + LANES - 1) / LANES * LANES;
    }

    Text& text(const Row& row) const {
        return texts[row.slot * shape.guidance_rows + row.guidance];
    }

    size_t cache_row(int layer, const Row& row) const {
        return ((size_t)layer * shape.slots + row.slot) * shape.guidance_rows + row.guidance;
    }

    Norm norm(const float* weight, const float* bias) {
        return {memory.copy(weight, shape.dim), memory.copy(bias, shape.dim)};
    }

    Matrix matrix(const float* source, int outputs, int inputs) {
        const size_t count = (size_t)outputs * inputs;
        Matrix matrix = {};
        matrix.outputs = outputs, matrix.inputs = inputs;
        int others = 0;  // tiles that need floats
        pool.run(shape.int8 ? 0 : outputs / LANES, [&](int tile, int) {
            if (!matrix.fits_halves(tile, source)) __atomic_add_fetch(&others, 1, __ATOMIC_RELAXED);
        });
        if (shape.int8)
            matrix.bytes = memory.take<uint8_t>(count), matrix.scales = memory.take<float>(outputs);
        else if (others)
            matrix.floats = memory.take<float>(count);
        else
            matrix.halves = memory.take<Half>(count);
        pool.run(outputs / LANES, [&](int tile, int) { matrix.pack(tile, source); });
        return matrix;
    }

    // Where the outputs of a matrix go: to rows of `target`.
    float** rows_of(float* target, int stride, int count) const {
        for (int row = 0; row < count; row++) to[row] = target + (size_t)row * stride;
        return to;
    }

    // Makes `count` rows of `inputs`, of `width` numbers: fill(row, numbers).
    template <class Fill>
    void prepare(int count, int width, const Fill& fill) {
        pool.run(count, [&](int row, int) {
            fill(row, inputs.row(row));
            if (shape.int8) inputs.quantize(row, width);
        });
    }

    void quantize(int count, int width) {
        if (shape.int8) pool.run(count, [&](int row, int) { inputs.quantize(row, width); });
    }

    // `count` rows of `inputs`, with a matrix, to y.
    void multiply(const Matrix& matrix, int count, Then then, float* const* y) {
        const int tiles = matrix.outputs / LANES;
        pool.run((tiles + SPAN - 1) / SPAN, [&](int span, int) {
            const int end = (span + 1) * SPAN < tiles ? (span + 1) * SPAN : tiles;
            matrix.multiply(span * SPAN, end, inputs, count, then, y);
        });
    }

    void rotate(float* x, int position) const {  // queries or keys [heads, head_dim]
        const float* cosines = positions + (size_t)position * 2 * head_dim();
        const float* sines = cosines + head_dim();
        for (int head = 0; head < shape.heads; head++, x += head_dim())
            for (int i = 0; i < head_dim(); i += 2) {
                const float a = x[i], b = x[i + 1];
                x[i] = a * cosines[i] - b * sines[i];
                x[i + 1] = b * cosines[i + 1] + a * sines[i + 1];
            }
    }

    void attend_to_past(int index, int count) {
        const Layer& layer = layers[index];
        const int dim = shape.dim;
        prepare(count, dim,
                [&](int row, float* to) { layer.norm.apply(x + (size_t)row * dim, dim, to); });
        multiply(layer.qkv, count, Then::STORE, rows_of(y, 3 * dim, count));
        pool.run(count, [&](int row, int) {
            float *queries = y + (size_t)row * 3 * dim, *keys = queries + dim, *values = keys + dim;
            const int position = rows[row].position;
            if (shape.rotary) rotate(queries, position), rotate(keys, position);
            cache.put(cache_row(index, rows[row]), position, keys, values);
        });
        pool.run(count * shape.heads, [&](int item, int thread) {
            const int row = item / shape.heads, head = item % shape.heads, at = head * head_dim();
            cache.attend(cache_row(index, rows[row]), head, y + (size_t)row * 3 * dim + at,
                         rows[row].position + 1, weights + (size_t)thread * longest(),
                         inputs.row(row) + at);
        });
        quantize(count, dim);
        multiply(layer.out, count, Then::ADD, rows_of(x, dim, count));
    }

    void attend_to_text(int index, int count) {
        const Layer& layer = layers[index];
        const int dim = shape.dim;
        prepare(count, dim, [&](int item, float* to) {
            layer.cross_norm.apply(x + (size_t)with_text[item] * dim, dim, to);
        });
        multiply(layer.cross_queries, count, Then::STORE, rows_of(y, dim, count));
        pool.run(count * shape.heads, [&](int item, int thread) {
            const int row = item / shape.heads, head = item % shape.heads, at = head * head_dim();
            const Text& text = this->text(rows[with_text[row]]);
            text.cache.attend(index, head, y + (size_t)row * dim + at, text.tokens,
                              weights + (size_t)thread * longest(), inputs.row(row) + at);
        });
        quantize(count, dim);
        for (int item = 0; item < count; item++) to[item] = x + (size_t)with_text[item] * dim;
        multiply(layer.cross_out, count, Then::ADD, to);
    }

    void feed_forward(int index, int count) {
        const Layer& layer = layers[index];
        const int dim = shape.dim, ffn_dim = shape.ffn_dim;
        prepare(count, dim,
                [&](int row, float* to) { layer.ffn_norm.apply(x + (size_t)row * dim, dim, to); });
        multiply(layer.ffn_in, count, Then::GELU, rows_of(y, ffn_dim, count));
        prepare(count, ffn_dim, [&](int row, float* to) {
            memcpy(to, y + (size_t)row * ffn_dim, ffn_dim * sizeof(float));
        });
        multiply(layer.ffn_out, count, Then::ADD, rows_of(x, dim, count));
    }

    // All layers, on `count` rows of x.
    void run(int count) {
        int texts = 0;
        for (int row = 0; row < count; row++) {
            const float* position = positions + (size_t)rows[row].position * shape.dim;
            for (int i = 0; i < shape.dim && !shape.rotary; i++)
                x[(size_t)row * shape.dim + i] += position[i];
            if (text(rows[row]).tokens) with_text[texts++] = row;
        }
        for (int index = 0; index < shape.layers; index++) {
            attend_to_past(index, count);
            if (texts) attend_to_text(index, texts);
            feed_forward(index, count);
        }
    }

    // tokens: those of all codebooks at one position, `stride` apart.
    void embed(const int32_t* tokens, int stride, float* x) const {
        memset(x, 0, shape.dim * sizeof(float));
        for (int codebook = 0; codebook < shape.codebooks; codebook++) {
            const size_t entry =
                (size_t)codebook * (shape.vocab_size + 1) + tokens[codebook * stride];
            const float* embedding = embeddings + entry * shape.dim;
            for (int i = 0; i < shape.dim; i++) x[i] += embedding[i];
        }
    }
};

// The C interface. The caller checks sizes and numbers. One thread at a time uses a model.

extern "C" {

Model* model_new(const Shape* shape, int32_t threads) {
    Memory memory = {};
    Model* model = memory.take<Model>(1);
    model->memory = memory;
    const Shape& s = model->shape = *shape;
    const size_t rows = s.max_rows, widest = model->widest();
    Memory& m = model->memory;
    model->layers = m.take<Layer>(s.layers);
    model->slots = m.take<Slot>(s.slots);
    model->texts = m.take<Text>((size_t)s.slots * s.guidance_rows);
    model->cache = Cache(m, (size_t)s.layers * s.slots * s.guidance_rows, s.heads,
                         model->head_dim(), s.positions, s.int8);
    model->rows = m.take<Row>(rows);
    model->with_text = m.take<int>(rows);
    model->last = m.take<int>(rows);
    model->x = m.take<float>(rows * s.dim);
    model->y = m.take<float>(rows * widest);
    model->inputs = {(int)widest, m.take<float>(rows * widest), m.take<Quad>(rows * widest / 4),
                     m.take<float>(rows * groups(widest)), m.take<int32_t>(rows * groups(widest))};
    model->to = m.take<float*>(rows);
    model->weights = m.take<float>((size_t)threads * model->longest());
    model->pool.start(threads);
    return model;
}

void model_free(Model* model) {
    model->pool.stop();
    for (int i = 0; i < model->shape.slots * model->shape.guidance_rows; i++)
        model->texts[i].memory.free();
    Memory memory = model->memory;  // the model lies in it
    memory.free();
}

// embeddings [codebooks, vocab_size + 1, dim]; positions: sinusoids [positions, dim] or rotations
// [positions, 2 (cosines, sines), head_dim]; heads [codebooks * vocab_size, dim].
void model_set_ends(Model* model, const float* embeddings, const float* positions,
                    const float* norm_weight, const float* norm_bias, const float* heads) {
    const Shape& s = model->shape;
    const size_t width = s.rotary ? 2 * model->head_dim() : s.dim, tokens = s.vocab_size + 1;
    model->embeddings = model->memory.copy(embeddings, s.codebooks * tokens * s.dim);
    model->positions = model->memory.copy(positions, s.positions * width);
    model->norm_out = model->norm(norm_weight, norm_bias);
    model->heads = model->matrix(heads, s.codebooks * s.vocab_size, s.dim);
}

void model_set_layer(Model* model, int32_t index, const LayerTensors* tensors) {
    const int dim = model->shape.dim, ffn_dim = model->shape.ffn_dim;
    const AttentionTensors &self = tensors->self, &cross = tensors->cross;
    Layer& layer = model->layers[index];
    layer.norm = model->norm(self.norm_weight, self.norm_bias);
    layer.qkv = model->matrix(self.qkv, 3 * dim, dim);
    layer.out = model->matrix(self.out, dim, dim);
    if (model->shape.cross_attention) {
        layer.cross_norm = model->norm(cross.norm_weight, cross.norm_bias);
        layer.cross_queries = model->matrix(cross.qkv, dim, dim);
        layer.cross_keys_values = model->matrix(cross.qkv + (size_t)dim * dim, 2 * dim, dim);
        layer.cross_out = model->matrix(cross.out, dim, dim);
    }
    layer.ffn_norm = model->norm(tensors->norm_weight, tensors->norm_bias);
    layer.ffn_in = model->matrix(tensors->ffn_in, ffn_dim, dim);
    layer.ffn_out = model->matrix(tensors->ffn_out, dim, ffn_dim);
}

// The number of guidance rows of a slot, and the positions before its codes: float32 [rows, prefix,
// dim], which the caller keeps.
void model_set_slot(Model* model, int32_t slot, int32_t rows, int32_t prefix, const float* before) {
    model->slots[slot] = {rows, prefix, before};
}

// The text of a guidance row, float32 [tokens, dim]. At most max_tokens; none: the null text.
void model_set_text(Model* model, int32_t slot, int32_t guidance, int32_t tokens,
                    const float* text) {
    const Shape& s = model->shape;
    Text& target = model->text({slot, guidance, 0});
    target.memory.free();
    target.tokens = s.cross_attention ? tokens : 0;
    if (!target.tokens) return;
    target.cache = Cache(target.memory, s.layers, s.heads, model->head_dim(), tokens, s.int8);
    for (int first = 0; first < tokens; first += s.max_rows) {
        const int count = tokens - first < s.max_rows ? tokens - first : s.max_rows;
        model->prepare(count, s.dim, [&](int row, float* to) {
            memcpy(to, text + (size_t)(first + row) * s.dim, s.dim * sizeof(float));
        });
        for (int index = 0; index < s.layers; index++) {
            model->multiply(model->layers[index].cross_keys_values, count, Then::STORE,
                            model->rows_of(model->y, 2 * s.dim, count));
            for (int row = 0; row < count; row++) {
                const float* keys = model->y + (size_t)row * 2 * s.dim;
                target.cache.put(index, first + row, keys, keys + s.dim);
            }
        }
    }
}

// The first `end` positions of the first guidance row of slot `from`, as those of another row.
void model_copy_row(Model* model, int32_t from, int32_t slot, int32_t guidance, int32_t end) {
    for (int layer = 0; layer < model->shape.layers; layer++)
        model->cache.copy(model->cache_row(layer, {slot, guidance, 0}),
                          model->cache_row(layer, {from, 0, 0}), end);
}

// One pass over `lengths[n]` positions of each sequence n, from starts[n] on; those before its
// codes are negative. The cache has the first known[n, guidance_rows] of them already, never all.
// tokens [codebooks, total], sequence after sequence. logits [rows of all sequences, codebooks *
// vocab_size]: those after the last position of each guidance row. At most max_rows positions times
// rows.
void model_forward(Model* model, int32_t sequences, const int32_t* slots, const int32_t* starts,
                   const int32_t* lengths, const int32_t* known, const int32_t* tokens,
                   int32_t total, float* logits) {
    const Shape& s = model->shape;
    int count = 0, outputs = 0;
    for (int n = 0; n < sequences; tokens += lengths[n++]) {
        const Slot& slot = model->slots[slots[n]];
        for (int guidance = 0; guidance < slot.rows; guidance++) {
            for (int i = known[n * s.guidance_rows + guidance]; i < lengths[n]; i++, count++) {
                const int position = slot.prefix + starts[n] + i;
                const size_t before = (size_t)guidance * slot.prefix + position;
                float* x = model->x + (size_t)count * s.dim;
                model->rows[count] = {slots[n], guidance, position};
                if (position < slot.prefix)
                    memcpy(x, slot.before + before * s.dim, s.dim * sizeof(float));
                else
                    model->embed(tokens + i, total, x);
            }
            model->last[outputs++] = count - 1;
        }
    }
    model->run(count);
    model->prepare(outputs, s.dim, [&](int output, float* to) {
        model->norm_out.apply(model->x + (size_t)model->last[output] * s.dim, s.dim, to);
    });
    model->multiply(model->heads, outputs, Then::STORE,
                    model->rows_of(logits, s.codebooks * s.vocab_size, outputs));
}
}
