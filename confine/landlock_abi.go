package confine

import "fmt"

// landlockLost says what an ABI older than 6 leaves open, in the order of the
// ABIs that closed it. ABI 7 and 8 brought logging and threads, no rights.
func landlockLost(abi int) []string {
	var lost []string
	for _, step := range []struct {
		abi    int
		kernel string
		lost   string
	}{
		{1, "5.13", "file access is not restricted at all"},
		{2, "5.19", "moving or linking files between directories is refused even inside the workspace"},
		{3, "6.2", "truncating files is not restricted by Landlock"},
		{4, "6.7", "TCP is not restricted by Landlock"},
		{5, "6.10", "device ioctls are not restricted by Landlock"},
		{6, "6.12", "signals and abstract unix sockets are not restricted by Landlock"},
	} {
		if abi < step.abi {
			lost = append(lost, fmt.Sprintf("%s (Linux %s, ABI %d)", step.lost, step.kernel, step.abi))
		}
	}
	return lost
}
