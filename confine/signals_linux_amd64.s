#include "textflag.h"

TEXT noopHandler<>(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	RET

// rt_sigreturn(2), which amd64 leaves to user space.
TEXT restorer<>(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	MOVQ $15, AX
	SYSCALL
	INT $3

TEXT ·noopHandlerAddr(SB), NOSPLIT, $0-8
	LEAQ noopHandler<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET

TEXT ·restorerAddr(SB), NOSPLIT, $0-8
	LEAQ restorer<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET
