package confine

// The vDSO returns from handlers on arm64.
const saRestorer = 0

// noopHandlerAddr is the address of the routine in the assembly file. The
// kernel calls it, with no Go stack.
func noopHandlerAddr() uintptr

func restorerAddr() uintptr { return 0 }
