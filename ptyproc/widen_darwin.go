package ptyproc

import "os"

// widen: macOS widens pipes by itself.
func widen(*os.File) {}
