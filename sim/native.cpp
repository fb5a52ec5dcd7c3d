// Drives the accelerator's byte port as fast as it goes: commands from a file, replies to a file.
//
//   Vaccelerator COMMANDS REPLIES BYTES
//
// Ends with status 0 once BYTES of reply have come, with 1 if none comes for a long time. Prints
// the clock cycles and the seconds that they took.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <vector>

#include "Vaccelerator.h"
#include "verilated.h"

// The longest layer of any network takes less.
constexpr std::uint64_t kPatience = 1'000'000'000;

int main(int argc, char** argv) {
    if (argc != 4) {
        std::fprintf(stderr, "usage: %s COMMANDS REPLIES BYTES\n", argv[0]);
        return 2;
    }
    std::ifstream file(argv[1], std::ios::binary);
    const std::vector<char> commands{std::istreambuf_iterator<char>(file), {}};
    const std::size_t wanted = std::strtoull(argv[3], nullptr, 10);
    std::vector<char> replies;

    VerilatedContext context;
    Vaccelerator dut(&context);
    // Verilator writes the second of two underscores as its code.
    auto &rx_valid = dut.rx___05Fvalid, &rx_ready = dut.rx___05Fready;
    auto &rx_payload = dut.rx___05Fpayload;
    auto &tx_valid = dut.tx___05Fvalid, &tx_ready = dut.tx___05Fready;
    auto &tx_payload = dut.tx___05Fpayload;
    std::size_t sent = 0;
    std::uint64_t cycles = 0, heard = 0;
    const auto tick = [&] {
        dut.clk = 0;
        dut.eval();
        dut.clk = 1;
        dut.eval();
    };
    dut.rst = 1;
    rx_valid = 0;
    tx_ready = 1;
    for (int i = 0; i < 4; i++) tick();
    dut.rst = 0;

    const auto start = std::chrono::steady_clock::now();
    while (replies.size() < wanted && cycles - heard < kPatience) {
        dut.clk = 0;
        rx_valid = sent < commands.size();
        if (rx_valid) rx_payload = static_cast<std::uint8_t>(commands[sent]);
        dut.eval();
        const bool taken = rx_valid && rx_ready;
        if (tx_valid) {
            replies.push_back(static_cast<char>(tx_payload));
            heard = cycles;
        }
        dut.clk = 1;
        dut.eval();
        sent += taken;
        cycles++;
    }
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    std::ofstream(argv[2], std::ios::binary).write(replies.data(), replies.size());
    std::printf("%llu %f\n", static_cast<unsigned long long>(cycles), passed.count());
    return replies.size() == wanted ? 0 : 1;
}
