package refusal

import (
	"reflect"
	"testing"
)

func TestRead(t *testing.T) {
	for _, tc := range []struct {
		output string
		want   []Claim
	}{
		{"", nil},
		{"all good\n", nil},
		{"touch: cannot touch '/etc/x': Read-only file system\n", []Claim{{ReadOnly, []string{"/etc/x"}}}},
		{"touch: cannot touch ‘/etc/x’: Read-only file system\n", []Claim{{ReadOnly, []string{"/etc/x"}}}},
		{"bash: line 1: /etc/x: Read-only file system\n", []Claim{{ReadOnly, []string{"/etc/x"}}}},
		{"sh: 1: cannot create /etc/x: Permission denied\n", []Claim{{Permission, []string{"cannot create /etc/x", "/etc/x"}}}},
		{"PermissionError: [Errno 13] Permission denied: '.env'\n", []Claim{{Permission, []string{".env"}}}},
		{"Error: EACCES: permission denied, open '/a b'\n", []Claim{{Permission, []string{"/a b"}}}},
		{"open /etc/x: permission denied\n", []Claim{{Permission, []string{"open /etc/x", "/etc/x"}}}},
		{"java.io.FileNotFoundException: /etc/x (Permission denied)\n", []Claim{{Permission, []string{"/etc/x"}}}},
		{"mv: cannot move 'a' to '/etc/b': Permission denied\n", []Claim{{Permission, []string{"a", "/etc/b"}}}},
		{"dd: error writing '/tmp/x': No space left on device\r\n", []Claim{{Space, []string{"/tmp/x"}}}},
		{"dd: error writing 'x': File too large\n", []Claim{{FileSize, []string{"x"}}}},
		{"413 file too large\n", nil},
		{"bash: fork: retry: Resource temporarily unavailable\n", []Claim{{Processes, []string{"retry: Resource temporarily unavailable"}}}},
		{"RuntimeError: can't start new thread\n", []Claim{{Processes, []string{"RuntimeError"}}}},
		{"sudo: The \"no new privileges\" flag is set, which prevents sudo from running as root.\n", []Claim{{Rights, []string{"sudo"}}}},
		{"recv: Resource temporarily unavailable\n", nil},
		{"curl: (6) Could not resolve host: example.com\n", []Claim{{Name, []string{"example.com"}}}},
		{"ssh: Could not resolve hostname h.example: Temporary failure in name resolution\n", []Claim{{Name, []string{"h.example"}}}},
		{"npm error request failed, reason: getaddrinfo EAI_AGAIN registry.npmjs.org\n", []Claim{{Name, []string{"registry.npmjs.org"}}}},
		{"java.net.UnknownHostException: repo.example.org\n", []Claim{{Name, []string{"repo.example.org"}}}},
		{"dial tcp: lookup proxy.example.org on 10.0.0.1:53: dial udp 10.0.0.1:53: connect: network is unreachable\n", []Claim{{Name, []string{"proxy.example.org"}}}},
		{"[Errno -3] Temporary failure in name resolution\n", []Claim{{Name, nil}}},
		{"OSError: [Errno 101] Network is unreachable\nOSError: [Errno 101] Network is unreachable\n", []Claim{{Network, nil}}},
	} {
		got := Read([]byte(tc.output))
		for i := range got {
			// Of the fork, only the cause matters.
			if got[i].Cause == Processes || got[i].Cause == Rights {
				got[i].Subjects = nil
			}
		}
		for i := range tc.want {
			if tc.want[i].Cause == Processes || tc.want[i].Cause == Rights {
				tc.want[i].Subjects = nil
			}
		}
		if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%q: %q, want %q", tc.output, got, tc.want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("touch: cannot touch '/etc/x': Read-only file system\n"))
	f.Add([]byte("getaddrinfo EAI_AGAIN a.b\nfork: Resource temporarily unavailable"))
	f.Fuzz(func(t *testing.T, b []byte) {
		claims := Read(b)
		if len(claims) > mostClaims {
			t.Fatalf("%d claims", len(claims))
		}
		for _, c := range claims {
			if len(c.Subjects) > mostSubjects {
				t.Fatalf("%d subjects", len(c.Subjects))
			}
			for _, s := range c.Subjects {
				if s == "" || len(s) > longestSubject {
					t.Fatalf("subject %q", s)
				}
			}
		}
	})
}
