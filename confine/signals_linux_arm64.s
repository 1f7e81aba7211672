#include "textflag.h"

TEXT noopHandler<>(SB), NOSPLIT|NOFRAME|TOPFRAME, $0
	RET

TEXT ·noopHandlerAddr(SB), NOSPLIT, $0-8
	MOVD $noopHandler<>(SB), R0
	MOVD R0, ret+0(FP)
	RET
