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

// func prefetchAt(base unsafe.Pointer, offs *Off, n, lines int)
TEXT ·prefetchAt(SB), NOSPLIT, $0-32
	MOVQ  base+0(FP), AX
	MOVQ  offs+8(FP), SI
	MOVQ  n+16(FP), CX
	MOVQ  lines+24(FP), DX
	TESTQ CX, CX
	JLE   done
	TESTQ DX, DX
	JLE   done
each:
	MOVQ (SI), DI
	ADDQ AX, DI
	MOVQ DX, R8
next:
	PREFETCHT1 (DI) // not T0: see PrefetchView
	ADDQ $64, DI
	DECQ R8
	JNZ  next
	ADDQ $8, SI
	DECQ CX
	JNZ  each
done:
	RET

// OPEN_KEY opens for this thread what the key in R11 guards, and CLOSE_KEY closes
// it again; without a key they jump to the label that follows them. They use AX,
// CX, DX and R11. See guard.go.
#define OPEN_KEY(without) \
	TESTL R11, R11; \
	JZ    without; \
	NOTL  R11; \
	XORL  CX, CX; \
	RDPKRU; \
	ANDL  R11, AX; \
	WRPKRU

#define CLOSE_KEY(without) \
	TESTL R11, R11; \
	JZ    without; \
	XORL  CX, CX; \
	RDPKRU; \
	ORL   R11, AX; \
	WRPKRU

// func storeNonTemporal(dst, src unsafe.Pointer, n uintptr, key pkey)
//
// With a key it opens what the key guards, copies, and closes it again. DI, SI and
// CX run through destination, source and bytes left:
//
//	head   the odd bytes before the first aligned word      MASKMOVDQU
//	words  up to a line's start, and what no line fills      MOVNTI
//	lines  whole                                             VMOVNTDQ or MOVNTDQ
//	tail   the odd bytes after the last word                 MASKMOVDQU
TEXT ·storeNonTemporal(SB), NOSPLIT, $0-28
	MOVL  key+24(FP), R11
	OPEN_KEY(ready)
ready:
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX

	TESTQ CX, CX
	JZ    done
	MOVQ  DI, R12
	ANDQ  $7, R12
	JZ    words
	MOVQ  $8, R13 // odd bytes: min(8 - DI%8, CX)
	SUBQ  R12, R13
	CMPQ  R13, CX
	CMOVQHI CX, R13
	JMP   odd

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
	JB    word // at most 7 more words: they end before the next line
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
	JMP   afterLines
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
afterLines:
	CMPQ  CX, $8
	JAE   word

tail:
	TESTQ CX, CX
	JZ    done
	XORQ  R12, R12
	MOVQ  CX, R13

// Stores R13 odd bytes, 1 to 7, that begin at byte R12 of the word around DI.
// They are gathered one by one, because the bytes around the source may not be
// there to read. MASKMOVDQU takes an aligned pair of words, so that it never
// reaches into a page that the destination does not touch.
odd:
	SUBQ  R13, CX
	XORQ  R8, R8  // the bytes
	XORQ  R9, R9  // 0x80 for each
	ADDQ  R13, SI
	MOVQ  R13, BX
gather:
	DECQ  SI
	SHLQ  $8, R8
	SHLQ  $8, R9
	MOVBLZX (SI), AX
	ORQ   AX, R8
	ORQ   $0x80, R9
	DECQ  BX
	JNZ   gather
	ADDQ  R13, SI
	MOVQ  DI, R10
	ADDQ  R13, R10 // where to go on
	XCHGQ R12, CX
	SHLQ  $3, CX
	SHLQ  CX, R8
	SHLQ  CX, R9
	MOVQ  R12, CX
	MOVQ  R8, X0
	MOVQ  R9, X1
	TESTQ $8, DI
	JZ    low
	PSLLO $8, X0
	PSLLO $8, X1
low:
	ANDQ  $~15, DI
	MASKMOVOU X1, X0
	MOVQ  R10, DI
	TESTQ CX, CX
	JNZ   words
done:
	MOVL  key+24(FP), R11
	CLOSE_KEY(closed)
closed:
	RET

// func storeWriteBack(dst, src unsafe.Pointer, n uintptr, key pkey)
TEXT ·storeWriteBack(SB), NOSPLIT, $0-28
	MOVL  key+24(FP), R11
	OPEN_KEY(ready)
ready:
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ n+16(FP), CX
	TESTQ CX, CX
	JZ    done
	MOVQ  DI, AX
	ANDQ  $~63, AX // writing back starts at the line, not at the address

bytes:
	TESTQ $7, DI
	JZ    words
byte:
	MOVBLZX (SI), R8
	MOVB  R8, (DI)
	INCQ  SI
	INCQ  DI
	DECQ  CX
	JZ    back
	JMP   bytes
words:
	CMPQ  CX, $8
	JB    rest
	MOVQ  (SI), R8
	MOVQ  R8, (DI)
	ADDQ  $8, SI
	ADDQ  $8, DI
	SUBQ  $8, CX
	JMP   words
rest:
	TESTQ CX, CX
	JZ    back
	MOVBLZX (SI), R8
	MOVB  R8, (DI)
	INCQ  SI
	INCQ  DI
	DECQ  CX
	JMP   rest

back:
	MOVBLZX ·writeBack(SB), DX
	CMPB  DX, $1
	JA    clwb
	JEQ   clflushopt
clflush:
	CLFLUSH (AX)
	ADDQ  $64, AX
	CMPQ  AX, DI
	JB    clflush
	JMP   done
clflushopt:
	CLFLUSHOPT (AX)
	ADDQ  $64, AX
	CMPQ  AX, DI
	JB    clflushopt
	JMP   done
clwb:
	CLWB  (AX)
	ADDQ  $64, AX
	CMPQ  AX, DI
	JB    clwb
done:
	MOVL  key+24(FP), R11
	CLOSE_KEY(closed)
closed:
	RET
