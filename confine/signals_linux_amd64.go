package confine

const saRestorer = 0x04000000

// noopHandlerAddr and restorerAddr are the addresses of the two routines in the
// assembly file. The kernel calls them, with no Go stack.
func noopHandlerAddr() uintptr
func restorerAddr() uintptr
