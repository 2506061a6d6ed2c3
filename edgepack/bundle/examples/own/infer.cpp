// Runs the model of this bundle on .npy files and prints the largest values of its first output, of fp32.
//
//     c++ -O2 -Wall infer.cpp -o infer -I../include ../model/model.so -Wl,-rpath,'$ORIGIN/../model'
//     ./infer [INPUT.npy...]
#include <edgepack.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

extern "C" const edgepack_net edgepack_this_net; // in model.so

static const char WEIGHTS[] = "../model/model.so.weights"; // from the folder in which the program runs

class Model {
public:
    explicit Model(const char *weights, int threads = 1) : model_(open(weights, threads), edgepack_close) {}

    void set_input(int number, const std::vector<char> &data)
    {
        if (edgepack_set_input(model_.get(), number, data.data(), data.size()) != EDGEPACK_OK)
            throw std::runtime_error("its size is not that of the model's input");
    }

    // The first output, which the model owns until the next run.
    std::pair<const float *, std::size_t> run()
    {
        const edgepack_tensor *type = edgepack_output_info(&edgepack_this_net, 0);
        if (edgepack_run(model_.get()) != EDGEPACK_OK)
            throw std::runtime_error("out of memory");
        if (type->code != 2 || type->bits != 32)
            throw std::runtime_error("the output has an element type that this example does not print");
        return {static_cast<const float *>(edgepack_output(model_.get(), 0)), type->size / sizeof(float)};
    }

private:
    static edgepack_model *open(const char *weights, int threads)
    {
        char why[EDGEPACK_TEXT];
        edgepack_model *model;
        if (edgepack_open(&edgepack_this_net, weights, threads, &model, why) != EDGEPACK_OK)
            throw std::runtime_error(why);
        return model;
    }

    std::unique_ptr<edgepack_model, void (*)(edgepack_model *)> model_;
};

// The elements of a C-ordered little-endian .npy file of version 1.
static std::vector<char> read_npy(const std::string &path)
{
    std::ifstream file(path, std::ios::binary);
    const std::string data((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (data.size() < 10 || data.compare(0, 7, "\x93NUMPY\x01") != 0)
        throw std::runtime_error(path + ": not a .npy file of version 1");
    const std::size_t head = 10 + static_cast<unsigned char>(data[8]) + 256u * static_cast<unsigned char>(data[9]);
    return std::vector<char>(data.begin() + static_cast<std::ptrdiff_t>(std::min(head, data.size())), data.end());
}

int main(int count, char **words)
{
    std::vector<std::string> paths(words + 1, words + count);
    if (paths.empty())
        paths.push_back("../sample/input-0.npy");
    try {
        if (edgepack_input_count(&edgepack_this_net) != static_cast<int>(paths.size()))
            throw std::runtime_error("the model has another number of inputs");
        Model model(WEIGHTS);
        for (std::size_t i = 0; i < paths.size(); i++)
            model.set_input(static_cast<int>(i), read_npy(paths[i]));
        const auto output = model.run();
        std::vector<std::size_t> order(output.second);
        std::iota(order.begin(), order.end(), std::size_t(0));
        std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
            return output.first[a] > output.first[b];
        });
        for (std::size_t i = 0; i < order.size() && i < 5; i++)
            std::printf("%8zu  %g\n", order[i], output.first[order[i]]);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "infer: %s\n", error.what());
        return 1;
    }
    return 0;
}
