//go:build !purego

#include "textflag.h"

// func threadRights() uint32
TEXT ·threadRights(SB), NOSPLIT, $0-4
	XORL CX, CX
	RDPKRU
	MOVL AX, ret+0(FP)
	RET

// func setThreadRights(rights uint32)
TEXT ·setThreadRights(SB), NOSPLIT, $0-4
	XORL CX, CX
	XORL DX, DX
	MOVL rights+0(FP), AX
	WRPKRU
	RET
