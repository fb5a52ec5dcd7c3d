// Cells of the ECP5 that Yosys 0.70 has no simulation models of, as its maps for block RAM and
// multipliers use them (share/lattice/brams_map_16kd.v, dsp_map_18x18.v). Whatever else they can do
// ends in an error: a port or a parameter that is not here, a mode, an input that should be low.

// Block RAM: 2,048 bytes of 9 bits. Lattice FPGA-TN-02204, "ECP5 and ECP5-5G Memory Usage Guide",
// and DP16KD in the FPGA Libraries Reference Guide.
//
// Each port has a width of its own. Addresses count bits: those of words of 9 leave out 3, of 18
// 4, of 36 5, whose places are byte enables; words of 1, 2 and 4 leave out the ninth bit of
// a byte. Words of 36 are port A's to write, with B's inputs as their high half, and port B's to
// read, with A's outputs as the low half. Both ports have one clock.
//
// A port that writes holds its output in mode NORMAL. Two things that nobody should look at are the
// opposite of what was there: what a port reads of a word that the other one writes in that cycle,
// for it is not promised, and what a port reads while it writes in mode READBEFOREWRITE, which Yosys
// sets on ports that nobody reads.
module DP16KD (
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5,
    DIA4, DIA3, DIA2, DIA1, DIA0,
    input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
    input CLKA, CEA, OCEA, WEA, RSTA, CSA2, CSA1, CSA0,
    input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5,
    DIB4, DIB3, DIB2, DIB1, DIB0,
    input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
    input CLKB, CEB, OCEB, WEB, RSTB, CSB2, CSB1, CSB0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5,
    DOA4, DOA3, DOA2, DOA1, DOA0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5,
    DOB4, DOB3, DOB2, DOB1, DOB0
);
    parameter DATA_WIDTH_A = 18;
    parameter DATA_WIDTH_B = 18;
    parameter WRITEMODE_A = "NORMAL";
    parameter WRITEMODE_B = "NORMAL";
    parameter REGMODE_A = "NOREG";
    parameter REGMODE_B = "NOREG";
    parameter CSDECODE_A = "0b000";
    parameter CSDECODE_B = "0b000";
    parameter CLKAMUX = "CLKA";
    parameter CLKBMUX = "CLKB";
    // Of resets, which stay low.
    parameter RESETMODE = "SYNC";
    parameter ASYNC_RESET_RELEASE = "SYNC";
    parameter GSR = "ENABLED";
    parameter [319:0] INITVAL_00 = 320'd0;
    parameter [319:0] INITVAL_01 = 320'd0;
    parameter [319:0] INITVAL_02 = 320'd0;
    parameter [319:0] INITVAL_03 = 320'd0;
    parameter [319:0] INITVAL_04 = 320'd0;
    parameter [319:0] INITVAL_05 = 320'd0;
    parameter [319:0] INITVAL_06 = 320'd0;
    parameter [319:0] INITVAL_07 = 320'd0;
    parameter [319:0] INITVAL_08 = 320'd0;
    parameter [319:0] INITVAL_09 = 320'd0;
    parameter [319:0] INITVAL_0A = 320'd0;
    parameter [319:0] INITVAL_0B = 320'd0;
    parameter [319:0] INITVAL_0C = 320'd0;
    parameter [319:0] INITVAL_0D = 320'd0;
    parameter [319:0] INITVAL_0E = 320'd0;
    parameter [319:0] INITVAL_0F = 320'd0;
    parameter [319:0] INITVAL_10 = 320'd0;
    parameter [319:0] INITVAL_11 = 320'd0;
    parameter [319:0] INITVAL_12 = 320'd0;
    parameter [319:0] INITVAL_13 = 320'd0;
    parameter [319:0] INITVAL_14 = 320'd0;
    parameter [319:0] INITVAL_15 = 320'd0;
    parameter [319:0] INITVAL_16 = 320'd0;
    parameter [319:0] INITVAL_17 = 320'd0;
    parameter [319:0] INITVAL_18 = 320'd0;
    parameter [319:0] INITVAL_19 = 320'd0;
    parameter [319:0] INITVAL_1A = 320'd0;
    parameter [319:0] INITVAL_1B = 320'd0;
    parameter [319:0] INITVAL_1C = 320'd0;
    parameter [319:0] INITVAL_1D = 320'd0;
    parameter [319:0] INITVAL_1E = 320'd0;
    parameter [319:0] INITVAL_1F = 320'd0;
    parameter [319:0] INITVAL_20 = 320'd0;
    parameter [319:0] INITVAL_21 = 320'd0;
    parameter [319:0] INITVAL_22 = 320'd0;
    parameter [319:0] INITVAL_23 = 320'd0;
    parameter [319:0] INITVAL_24 = 320'd0;
    parameter [319:0] INITVAL_25 = 320'd0;
    parameter [319:0] INITVAL_26 = 320'd0;
    parameter [319:0] INITVAL_27 = 320'd0;
    parameter [319:0] INITVAL_28 = 320'd0;
    parameter [319:0] INITVAL_29 = 320'd0;
    parameter [319:0] INITVAL_2A = 320'd0;
    parameter [319:0] INITVAL_2B = 320'd0;
    parameter [319:0] INITVAL_2C = 320'd0;
    parameter [319:0] INITVAL_2D = 320'd0;
    parameter [319:0] INITVAL_2E = 320'd0;
    parameter [319:0] INITVAL_2F = 320'd0;
    parameter [319:0] INITVAL_30 = 320'd0;
    parameter [319:0] INITVAL_31 = 320'd0;
    parameter [319:0] INITVAL_32 = 320'd0;
    parameter [319:0] INITVAL_33 = 320'd0;
    parameter [319:0] INITVAL_34 = 320'd0;
    parameter [319:0] INITVAL_35 = 320'd0;
    parameter [319:0] INITVAL_36 = 320'd0;
    parameter [319:0] INITVAL_37 = 320'd0;
    parameter [319:0] INITVAL_38 = 320'd0;
    parameter [319:0] INITVAL_39 = 320'd0;
    parameter [319:0] INITVAL_3A = 320'd0;
    parameter [319:0] INITVAL_3B = 320'd0;
    parameter [319:0] INITVAL_3C = 320'd0;
    parameter [319:0] INITVAL_3D = 320'd0;
    parameter [319:0] INITVAL_3E = 320'd0;
    parameter [319:0] INITVAL_3F = 320'd0;

    if (!(DATA_WIDTH_A inside {1, 2, 4, 9, 18, 36}) || !(DATA_WIDTH_B inside {1, 2, 4, 9, 18, 36}))
        $error("DP16KD: no words of %0d and %0d bits", DATA_WIDTH_A, DATA_WIDTH_B);
    if (DATA_WIDTH_A != 36 && DATA_WIDTH_B == 36)
        $error("DP16KD: words of 36 bits are read only where they are written");
    if (WRITEMODE_A != "NORMAL" && WRITEMODE_A != "READBEFOREWRITE"
        || WRITEMODE_B != "NORMAL" && WRITEMODE_B != "READBEFOREWRITE")
        $error("DP16KD: no WRITEMODE %s and %s", WRITEMODE_A, WRITEMODE_B);
    if (REGMODE_A != "NOREG" || REGMODE_B != "NOREG")
        $error("DP16KD: no output registers");
    if (CSDECODE_A != "0b000" || CSDECODE_B != "0b000")
        $error("DP16KD: no CSDECODE but 0b000");
    if (CLKAMUX != "CLKA" || CLKBMUX != "CLKB")
        $error("DP16KD: no falling edges");

    reg [8:0] bytes [0:2047];
    reg [17:0] out_a = 0;
    reg [35:0] out_b = 0;

    // 16 words of 18 bits in each, 20 bits apart.
    localparam [64 * 320 - 1:0] INITVAL = {
        INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39,
        INITVAL_38, INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32,
        INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B,
        INITVAL_2A, INITVAL_29, INITVAL_28, INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24,
        INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D,
        INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16,
        INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F,
        INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08,
        INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01,
        INITVAL_00
    };
    initial
        for (integer i = 0; i < 2048; i = i + 1)
            bytes[i] = INITVAL[20 * (i / 2) + 9 * (i % 2) +: 9];

    wire [13:0] at_a = {
        ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0
    };
    wire [17:0] half_a = {
        DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4,
        DIA3, DIA2, DIA1, DIA0
    };
    wire [13:0] at_b = {
        ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0
    };
    wire [17:0] half_b = {
        DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4,
        DIB3, DIB2, DIB1, DIB0
    };
    wire [35:0] in_a = DATA_WIDTH_A == 36 ? {half_b, half_a} : {18'd0, half_a};
    wire [35:0] in_b = {18'd0, half_b};
    wire [17:0] low = DATA_WIDTH_B == 36 ? out_b[17:0] : out_a;
    wire [17:0] high = DATA_WIDTH_B == 36 ? out_b[35:18] : out_b[17:0];
    assign {
        DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4,
        DOA3, DOA2, DOA1, DOA0
    } = low;
    assign {
        DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4,
        DOB3, DOB2, DOB1, DOB0
    } = high;

    function [3:0] enables(input integer width, input [13:0] at);
        enables = width == 36 ? at[3:0] : width == 18 ? {2'd0, at[1:0]} : 4'd1;
    endfunction

    // Address bits inside a word.
    function integer inside_word(input integer width);
        inside_word = width == 36 ? 5 : width == 18 ? 4 : width == 9 ? 3 : $clog2(width);
    endfunction

    function [35:0] word(input integer width, input [13:0] at);
        case (width)
            36: word = {
                bytes[{at[13:5], 2'd3}], bytes[{at[13:5], 2'd2}],
                bytes[{at[13:5], 2'd1}], bytes[{at[13:5], 2'd0}]
            };
            18: word = {18'd0, bytes[{at[13:4], 1'd1}], bytes[{at[13:4], 1'd0}]};
            9: word = {27'd0, bytes[at[13:3]]};
            default: word = 36'(bytes[at[13:3]] >> (at[2:0] & ~3'(width - 1)));
        endcase
    endfunction

    task store(input integer width, input [13:0] at, input [35:0] data);
        case (width)
            36: for (integer i = 0; i < 4; i = i + 1)
                if (at[i]) bytes[{at[13:5], i[1:0]}] = data[9 * i +: 9];
            18: for (integer i = 0; i < 2; i = i + 1)
                if (at[i]) bytes[{at[13:4], i[0]}] = data[9 * i +: 9];
            9: bytes[at[13:3]] = data[8:0];
            4: bytes[at[13:3]][{at[2], 2'd0} +: 4] = data[3:0];
            2: bytes[at[13:3]][{at[2:1], 1'd0} +: 2] = data[1:0];
            1: bytes[at[13:3]][at[2:0]] = data[0];
        endcase
    endtask

    localparam WIDER = DATA_WIDTH_A > DATA_WIDTH_B ? DATA_WIDTH_A : DATA_WIDTH_B;
    wire same = (at_a ^ at_b) >> inside_word(WIDER) == 0;
    wire writes_a = CEA & WEA & |enables(DATA_WIDTH_A, at_a);
    wire writes_b = CEB & WEB & |enables(DATA_WIDTH_B, at_b);
    wire reads_a = CEA & (!WEA | WRITEMODE_A == "READBEFOREWRITE");
    wire reads_b = CEB & (!WEB | WRITEMODE_B == "READBEFOREWRITE");

    always @(posedge CLKA) begin
        if (reads_a)
            out_a <= 18'(word(DATA_WIDTH_A, at_a)) ^ {18{same & writes_b | WEA}};
        if (reads_b)
            out_b <= word(DATA_WIDTH_B, at_b) ^ {36{same & writes_a | WEB}};
        if (writes_a)
            store(DATA_WIDTH_A, at_a, in_a);
        if (writes_b)
            store(DATA_WIDTH_B, at_b, in_b);
        if (RSTA | RSTB | CSA2 | CSA1 | CSA0 | CSB2 | CSB1 | CSB0)
            $fatal(1, "DP16KD: no reset and no chip select");
        if (DATA_WIDTH_A == 36 && WEB)
            $fatal(1, "DP16KD: words of 36 bits are port A's to write");
        if (same & writes_a & writes_b)
            $fatal(1, "DP16KD: both ports write a word");
    end

    always @(CLKA or CLKB)
        if (CEB && CLKA != CLKB) $fatal(1, "DP16KD: one clock for both ports");
endmodule

// A multiplier, without registers: those that it has, Yosys leaves unused. Lattice FPGA-TN-02205,
// "ECP5 and ECP5-5G sysDSP Usage Guide". C is for the ALU behind it.
module MULT18X18D (
    input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
    input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
    input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18,
    P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
    wire [17:0] a = {
        A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0
    };
    wire [17:0] b = {
        B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0
    };
    wire signed [18:0] factor_a = {SIGNEDA & A17, a};
    wire signed [18:0] factor_b = {SIGNEDB & B17, b};
    wire signed [37:0] product = factor_a * factor_b;
    assign {
        P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18,
        P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
    } = product[35:0];

    always @*
        if (SOURCEA | SOURCEB) $fatal(1, "MULT18X18D: no inputs from a neighbour");
endmodule
