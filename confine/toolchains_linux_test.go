package confine

import (
	"os"
	"slices"
	"testing"
)

// An identity without a home, as a root server's sessions have, must not count as
// one whose home is "/": the toolchains of the user's home would be cut down.
func TestHomes(t *testing.T) {
	user, err := os.UserHomeDir()
	if err != nil {
		t.Skip(err)
	}
	for hostHome, want := range map[string][]string{"": {user}, user: {user}, "/home/other": {"/home/other", user}} {
		if got := (&layout{id: identity{hostHome: hostHome}}).homes(); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", hostHome, got, want)
		}
	}
}
