// The instructions of `multiply_async`, one per number of columns (PTX ISA, "wgmma.mma_async").
//
// d[64, N] += a[64, 16] · b[N, 16]^T of bf16, sums in f32. Both operands are described as `hopper.cuh` says. Each of
// four warps has 16 rows; in it lane l, with g = l / 4 and t = l % 4, has for every 8 columns j
//   d[4j] = D[g][8j + 2t]      d[4j+1] = D[g][8j + 2t+1]      d[4j+2], d[4j+3]: the same of row g + 8
#pragma once

#define D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define D8(i) D4(i), D4(i + 4)

template <u32 N>
DEVICE void multiply_async(float (&d)[N / 2], u64 a, u64 b);

template <>
DEVICE void multiply_async<8>(float (&d)[4], u64 a, u64 b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {"
                 "%0,%1,%2,%3"
                 "}, %4, %5, 1, 1, 1, 0, 0;"
                 : D4(0)
                 : "l"(a), "l"(b));
}

template <>
DEVICE void multiply_async<16>(float (&d)[8], u64 a, u64 b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {"
                 "%0,%1,%2,%3,%4,%5,%6,%7"
                 "}, %8, %9, 1, 1, 1, 0, 0;"
                 : D8(0)
                 : "l"(a), "l"(b));
}

template <>
DEVICE void multiply_async<32>(float (&d)[16], u64 a, u64 b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {"
                 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
                 "}, %16, %17, 1, 1, 1, 0, 0;"
                 : D8(0), D8(8)
                 : "l"(a), "l"(b));
}

template <>
DEVICE void multiply_async<64>(float (&d)[32], u64 a, u64 b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
                 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
                 "}, %32, %33, 1, 1, 1, 0, 0;"
                 : D8(0), D8(8), D8(16), D8(24)
                 : "l"(a), "l"(b));
}

template <>
DEVICE void multiply_async<128>(float (&d)[64], u64 a, u64 b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
                 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
                 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
                 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
                 "}, %64, %65, 1, 1, 1, 0, 0;"
                 : D8(0), D8(8), D8(16), D8(24), D8(32), D8(40), D8(48), D8(56)
                 : "l"(a), "l"(b));
}

template <>
DEVICE void multiply_async<256>(float (&d)[128], u64 a, u64 b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
                 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
                 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
                 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
                 "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
                 "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"
                 "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"
                 "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
                 "}, %128, %129, 1, 1, 1, 0, 0;"
                 : D8(0), D8(8), D8(16), D8(24), D8(32), D8(40), D8(48), D8(56),
                   D8(64), D8(72), D8(80), D8(88), D8(96), D8(104), D8(112), D8(120)
                 : "l"(a), "l"(b));
}

// The first operand in registers.
template <u32 N>
DEVICE void multiply_held_async(float (&d)[N / 2], const u32 (&a)[4], u64 b, u32 keep);

template <>
DEVICE void multiply_held_async<32>(float (&d)[16], const u32 (&a)[4], u64 b, u32 keep) {
    asm volatile("{\n"
                 ".reg .pred keep;\n"
                 "setp.ne.b32 keep, %21, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {"
                 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
                 "}, {%16,%17,%18,%19}, %20, keep, 1, 1, 0;\n"
                 "}"
                 : D8(0), D8(8)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep));
}

// The same where the second operand is 16 rows of 128 bytes, a row for each number of k ("N-major"): 1,024 bytes from
// eight rows to the next.
template <u32 N>
DEVICE void multiply_rows_async(float (&d)[N / 2], const u32 (&a)[4], u64 b, u32 keep);

template <>
DEVICE void multiply_rows_async<64>(float (&d)[32], const u32 (&a)[4], u64 b, u32 keep) {
    asm volatile("{\n"
                 ".reg .pred keep;\n"
                 "setp.ne.b32 keep, %37, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
                 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
                 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
                 "}, {%32,%33,%34,%35}, %36, keep, 1, 1, 1;\n"
                 "}"
                 : D8(0), D8(8), D8(16), D8(24)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep));
}

#undef D8
#undef D4
