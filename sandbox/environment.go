package sandbox

import "strings"

// CheckEnvName refuses the name of an environment variable that execve(2) would
// pass on and no shell could read. Codes: invalid_argument.
func CheckEnvName(name string) error {
	if name == "" || strings.ContainsAny(name, "=\x00") {
		return Errorf("invalid_argument", nil, "the environment name %q is empty or holds '=' or NUL; use a plain name", name)
	}
	return nil
}
