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
