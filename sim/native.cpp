// Drives the accelerator's byte port as fast as it goes: commands from stdin, replies to stdout.
//
//   Vaccelerator [BYTES]
//
// Ends with status 0 once BYTES of reply have gone out, with 1 if none comes for a long time; tells
// on stderr the clock cycles and the seconds that they took. Without BYTES it goes on until stdin
// ends, and rests when nothing happens.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <poll.h>
#include <unistd.h>
#include <vector>

#include "Vaccelerator.h"
#include "verilated.h"

// The longest layer of any network takes less.
constexpr std::uint64_t kPatience = 1'000'000'000;

// Cycles between two looks at stdin. It rests at them once nothing has come out for some cycles
// after a reply, for much longer after a command, which may be at work.
constexpr std::uint64_t kLook = 256, kReplied = 512, kAtWork = 100'000'000;
constexpr int kRestMs = 20;

int main(int argc, char** argv) {
    const bool endless = argc < 2;
    const std::size_t wanted = endless ? 0 : std::strtoull(argv[1], nullptr, 10);

    VerilatedContext context;
    Vaccelerator dut(&context);
    // Verilator writes the second of two underscores as its code.
    auto &rx_valid = dut.rx___05Fvalid, &rx_ready = dut.rx___05Fready;
    auto &rx_payload = dut.rx___05Fpayload;
    auto &tx_valid = dut.tx___05Fvalid, &tx_ready = dut.tx___05Fready;
    auto &tx_payload = dut.tx___05Fpayload;
    std::vector<std::uint8_t> heard(1 << 16), reply;
    std::size_t next = 0, end = 0, sent = 0;
    std::uint64_t cycles = 0, last = 0;
    bool ended = false, replied = false;
    const auto tick = [&] {
        dut.clk = 0;
        dut.eval();
        dut.clk = 1;
        dut.eval();
    };
    const auto say = [&] {
        for (std::size_t done = 0; done < reply.size();) {
            const ssize_t count = write(STDOUT_FILENO, &reply[done], reply.size() - done);
            if (count <= 0) std::exit(1);
            done += count;
        }
        reply.clear();
    };
    dut.rst = 1;
    rx_valid = 0;
    tx_ready = 1;
    for (int i = 0; i < 4; i++) tick();
    dut.rst = 0;

    const auto start = std::chrono::steady_clock::now();
    while (endless ? !ended : sent < wanted && cycles - last < kPatience) {
        if (next == end && !ended && cycles % kLook == 0) {
            const bool rests = endless && cycles - last > (replied ? kReplied : kAtWork);
            pollfd input{STDIN_FILENO, POLLIN, 0};
            if (!reply.empty()) say();
            if (poll(&input, 1, rests ? kRestMs : 0) > 0) {
                const ssize_t count = read(STDIN_FILENO, heard.data(), heard.size());
                next = 0;
                end = count > 0 ? count : 0;
                ended = count <= 0;
            }
        }
        dut.clk = 0;
        rx_valid = next < end;
        if (rx_valid) rx_payload = heard[next];
        dut.eval();
        if (rx_valid && rx_ready) {
            next++;
            last = cycles;
            replied = false;
        }
        if (tx_valid) {
            reply.push_back(tx_payload);
            sent++;
            last = cycles;
            replied = true;
        }
        dut.clk = 1;
        dut.eval();
        cycles++;
    }
    say();
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    std::fprintf(stderr, "%llu %f\n", static_cast<unsigned long long>(cycles), passed.count());
    return sent == wanted || endless ? 0 : 1;
}
