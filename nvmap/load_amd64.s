//go:build !purego

#include "textflag.h"

// func loadLines(dst, src unsafe.Pointer, n uintptr)
//
// Streaming loads are ordered by nothing: without the fences they could return
// what a load buffer has kept, or overtake this CPU's own combined stores.
TEXT ·loadLines(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	MFENCE
	CMPQ CX, $64
	JB   done
	CMPB ·useAVX2(SB), $0
	JEQ  line16
line32:
	VMOVNTDQA (SI), Y0
	VMOVNTDQA 32(SI), Y1
	VMOVDQU Y0, (DI)
	VMOVDQU Y1, 32(DI)
	ADDQ $64, SI
	ADDQ $64, DI
	SUBQ $64, CX
	CMPQ CX, $64
	JAE  line32
	VZEROUPPER
	JMP  done
line16:
	MOVOU (SI), X0
	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	MOVOU X0, (DI)
	MOVOU X1, 16(DI)
	MOVOU X2, 32(DI)
	MOVOU X3, 48(DI)
	ADDQ $64, SI
	ADDQ $64, DI
	SUBQ $64, CX
	CMPQ CX, $64
	JAE  line16
done:
	MFENCE
	RET
