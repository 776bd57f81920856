//go:build !purego

#include "textflag.h"

// func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL leaf+0(FP), AX
	MOVL sub+4(FP), CX
	CPUID
	MOVL AX, eax+8(FP)
	MOVL BX, ebx+12(FP)
	MOVL CX, ecx+16(FP)
	MOVL DX, edx+20(FP)
	RET

// func drainStores()
TEXT ·drainStores(SB), NOSPLIT, $0-0
	SFENCE
	RET

// func Prefetch(p unsafe.Pointer, lines int)
TEXT ·Prefetch(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), AX
	MOVQ lines+8(FP), CX
	TESTQ CX, CX
	JLE  done
next:
	PREFETCHT0 (AX)
	ADDQ $64, AX
	DECQ CX
	JNZ  next
done:
	RET

// Writes back the line at AX by the best means the CPU has. DX holds writeBack.
#define WRITEBACK \
	CMPB DX, $1 \
	JA   4(PC) \
	JB   5(PC) \
	CLFLUSHOPT (AX) \
	JMP  4(PC) \
	CLWB (AX) \
	JMP  2(PC) \
	CLFLUSH (AX)

// func storeBytes(dst, src unsafe.Pointer, n uintptr)
//
// DI, SI and CX run through destination, source and bytes left. Bytes before
// the first and after the last aligned word are stored one by one and their
// line is written back; words up to the first full line and after the last one
// are stored with MOVNTI; full lines with the widest non-temporal store.
TEXT ·storeBytes(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	MOVBLZX ·writeBack(SB), DX

	TESTQ $7, DI
	JZ    words
	TESTQ CX, CX
	JZ    done
	MOVQ  DI, AX
headByte:
	MOVB  (SI), R8
	MOVB  R8, (DI)
	INCQ  SI
	INCQ  DI
	DECQ  CX
	JZ    headBack
	TESTQ $7, DI
	JNZ   headByte
headBack:
	WRITEBACK

words:
	CMPQ  CX, $8
	JB    tail
	TESTQ $63, DI
	JZ    lines
word:
	MOVQ  (SI), R8
	MOVNTIQ R8, (DI)
	ADDQ  $8, SI
	ADDQ  $8, DI
	SUBQ  $8, CX
	CMPQ  CX, $8
	JB    tail
	TESTQ $63, DI
	JNZ   word

lines:
	CMPQ  CX, $64
	JB    word // fewer than 8 words: they never reach the next line's start
	CMPB  ·useAVX(SB), $0
	JEQ   line16
line32:
	VMOVDQU (SI), Y0
	VMOVDQU 32(SI), Y1
	VMOVNTDQ Y0, (DI)
	VMOVNTDQ Y1, 32(DI)
	ADDQ  $64, SI
	ADDQ  $64, DI
	SUBQ  $64, CX
	CMPQ  CX, $64
	JAE   line32
	VZEROUPPER
	JMP   words2
line16:
	MOVOU (SI), X0
	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	MOVNTO X0, (DI)
	MOVNTO X1, 16(DI)
	MOVNTO X2, 32(DI)
	MOVNTO X3, 48(DI)
	ADDQ  $64, SI
	ADDQ  $64, DI
	SUBQ  $64, CX
	CMPQ  CX, $64
	JAE   line16
words2:
	CMPQ  CX, $8
	JAE   word

tail:
	TESTQ CX, CX
	JZ    done
	MOVQ  DI, AX
tailByte:
	MOVB  (SI), R8
	MOVB  R8, (DI)
	INCQ  SI
	INCQ  DI
	DECQ  CX
	JNZ   tailByte
	WRITEBACK
done:
	RET
