//go:build !purego

#include "textflag.h"

// func update(crc uint32, a, b []byte) uint32
//
// AX is the checksum, SI and CX run through a, then through b: whole words, then
// what is left of one, by the bits of its length.
TEXT ·update(SB), NOSPLIT, $0-60
	MOVL crc+0(FP), AX
	NOTL AX
	MOVQ a_base+8(FP), SI
	MOVQ a_len+16(FP), CX
	SUBQ $8, CX
	JLT  restOfA

wordOfA:
	CRC32Q (SI), AX
	ADDQ   $8, SI
	SUBQ   $8, CX
	JGE    wordOfA

restOfA:
	TESTQ  $4, CX
	JZ     pairOfA
	CRC32L (SI), AX
	ADDQ   $4, SI

pairOfA:
	TESTQ  $2, CX
	JZ     byteOfA
	CRC32W (SI), AX
	ADDQ   $2, SI

byteOfA:
	TESTQ  $1, CX
	JZ     second
	CRC32B (SI), AX

second:
	MOVQ b_base+32(FP), SI
	MOVQ b_len+40(FP), CX
	SUBQ $8, CX
	JLT  restOfB

wordOfB:
	CRC32Q (SI), AX
	ADDQ   $8, SI
	SUBQ   $8, CX
	JGE    wordOfB

restOfB:
	TESTQ  $4, CX
	JZ     pairOfB
	CRC32L (SI), AX
	ADDQ   $4, SI

pairOfB:
	TESTQ  $2, CX
	JZ     byteOfB
	CRC32W (SI), AX
	ADDQ   $2, SI

byteOfB:
	TESTQ  $1, CX
	JZ     done
	CRC32B (SI), AX

done:
	NOTL AX
	MOVL AX, ret+56(FP)
	RET

// REST takes the words that are left of a piece into SUM, then the bytes behind
// them by the bits of its length. P is where they begin, N how many bytes.
#define REST(P, N, SUM, word, tail, pair, odd, done) \
	SUBQ $8, N; \
	JLT  tail; \
word: \
	CRC32Q (P), SUM; \
	ADDQ   $8, P; \
	SUBQ   $8, N; \
	JGE    word; \
tail: \
	TESTQ  $4, N; \
	JZ     pair; \
	CRC32L (P), SUM; \
	ADDQ   $4, P; \
pair: \
	TESTQ  $2, N; \
	JZ     odd; \
	CRC32W (P), SUM; \
	ADDQ   $2, P; \
odd: \
	TESTQ  $1, N; \
	JZ     done; \
	CRC32B (P), SUM; \
done:

// func sum4(a, b *[4][]byte, sums *[4]uint32)
//
// A CRC32 takes three cycles and one can begin in each, so four go on at once
// through the words that all of a have, AX to DX for a[0] to a[3]. What is left
// of each, and its b, are short.
TEXT ·sum4(SB), NOSPLIT, $0-24
	MOVQ a+0(FP), R13
	MOVQ 0(R13), SI
	MOVQ 24(R13), DI
	MOVQ 48(R13), R8
	MOVQ 72(R13), R9
	MOVQ 8(R13), R11
	MOVQ 32(R13), R12
	CMPQ R12, R11
	CMOVQLT R12, R11
	MOVQ 56(R13), R12
	CMPQ R12, R11
	CMOVQLT R12, R11
	MOVQ 80(R13), R12
	CMPQ R12, R11
	CMOVQLT R12, R11
	ANDQ $~7, R11 // bytes that all have, in words
	XORL AX, AX
	NOTL AX
	MOVL AX, BX
	MOVL AX, CX
	MOVL AX, DX
	XORL R10, R10
	TESTQ R11, R11
	JZ   each

four:
	CRC32Q (SI)(R10*1), AX
	CRC32Q (DI)(R10*1), BX
	CRC32Q (R8)(R10*1), CX
	CRC32Q (R9)(R10*1), DX
	ADDQ $8, R10
	CMPQ R10, R11
	JB   four

each:
	ADDQ R11, SI
	ADDQ R11, DI
	ADDQ R11, R8
	ADDQ R11, R9
	MOVQ 8(R13), R12
	SUBQ R11, R12
	REST(SI, R12, AX, wordA0, tailA0, pairA0, oddA0, doneA0)
	MOVQ 32(R13), R12
	SUBQ R11, R12
	REST(DI, R12, BX, wordA1, tailA1, pairA1, oddA1, doneA1)
	MOVQ 56(R13), R12
	SUBQ R11, R12
	REST(R8, R12, CX, wordA2, tailA2, pairA2, oddA2, doneA2)
	MOVQ 80(R13), R12
	SUBQ R11, R12
	REST(R9, R12, DX, wordA3, tailA3, pairA3, oddA3, doneA3)
	MOVQ b+8(FP), R13
	MOVQ 0(R13), SI
	MOVQ 8(R13), R12
	REST(SI, R12, AX, wordB0, tailB0, pairB0, oddB0, doneB0)
	MOVQ 24(R13), SI
	MOVQ 32(R13), R12
	REST(SI, R12, BX, wordB1, tailB1, pairB1, oddB1, doneB1)
	MOVQ 48(R13), SI
	MOVQ 56(R13), R12
	REST(SI, R12, CX, wordB2, tailB2, pairB2, oddB2, doneB2)
	MOVQ 72(R13), SI
	MOVQ 80(R13), R12
	REST(SI, R12, DX, wordB3, tailB3, pairB3, oddB3, doneB3)
	MOVQ sums+16(FP), R13
	NOTL AX
	NOTL BX
	NOTL CX
	NOTL DX
	MOVL AX, 0(R13)
	MOVL BX, 4(R13)
	MOVL CX, 8(R13)
	MOVL DX, 12(R13)
	RET
