//go:build linux && !purego

#include "textflag.h"

// func drainStores()
TEXT ·drainStores(SB), NOSPLIT, $0-0
	DSB $0xf // SY
	RET

// func Prefetch(p unsafe.Pointer, lines int)
TEXT ·Prefetch(SB), NOSPLIT, $0-16
	MOVD p+0(FP), R0
	MOVD lines+8(FP), R1
	CMP  $0, R1
	BLE  done
next:
	PRFM (R0), PLDL1KEEP
	ADD  $64, R0
	SUBS $1, R1
	BNE  next
done:
	RET

// func prefetchAt(base unsafe.Pointer, offs *Off, n, lines int)
TEXT ·prefetchAt(SB), NOSPLIT, $0-32
	MOVD base+0(FP), R0
	MOVD offs+8(FP), R1
	MOVD n+16(FP), R2
	MOVD lines+24(FP), R3
	CMP  $0, R2
	BLE  done
	CMP  $0, R3
	BLE  done
each:
	MOVD.P 8(R1), R4
	ADD  R0, R4
	MOVD R3, R5
next:
	PRFM (R4), PLDL1KEEP
	ADD  $64, R4
	SUBS $1, R5
	BNE  next
	SUBS $1, R2
	BNE  each
done:
	RET

// func storeClean(dst, src unsafe.Pointer, n uintptr, _ pkey)
TEXT ·storeClean(SB), NOSPLIT, $0-28
	MOVD dst+0(FP), R0
	MOVD src+8(FP), R1
	MOVD n+16(FP), R2
	CBZ  R2, done
	MOVD R0, R5 // first byte
head:
	TST  $7, R0
	BEQ  words
	MOVBU.P 1(R1), R3
	MOVB.P R3, 1(R0)
	SUBS $1, R2
	BEQ  clean
	B    head
words:
	CMP  $8, R2
	BLO  tail
	MOVD.P 8(R1), R3
	MOVD.P R3, 8(R0)
	SUB  $8, R2
	B    words
tail:
	CBZ  R2, clean
	MOVBU.P 1(R1), R3
	MOVB.P R3, 1(R0)
	SUB  $1, R2
	B    tail

clean:
	// The smallest line of any data cache: CTR_EL0.DminLine is log2 of its words.
	MRS  CTR_EL0, R3
	UBFX $16, R3, $4, R3
	MOVD $4, R4
	LSL  R3, R4, R4
	SUB  $1, R4, R6
	BIC  R6, R5, R5 // from the start of the line, not from the address
	MOVBU ·cleanToPersistence(SB), R7
	CBZ  R7, cvac
cvap:
	DC   CVAP, R5
	ADD  R4, R5
	CMP  R0, R5
	BLO  cvap
	B    wait
cvac:
	DC   CVAC, R5
	ADD  R4, R5
	CMP  R0, R5
	BLO  cvac
wait:
	DSB  $0xf // SY
done:
	RET
