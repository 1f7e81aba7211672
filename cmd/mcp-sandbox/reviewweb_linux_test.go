package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// serveReviewPage starts a review on a page and gives its address.
func serveReviewPage(t *testing.T, p *stagedProject) (address string, cmd *exec.Cmd, out *bufio.Reader) {
	t.Helper()
	cmd = exec.Command(binary, "review", "--root", p.dir, "--state-dir", p.state, "--web")
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	out = bufio.NewReader(pipe)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line), cmd, out
}

// TestReviewPage: the page is served to whoever opens the address first, and to
// nobody else; changes come from the page alone.
func TestReviewPage(t *testing.T) {
	p := newStagedProject(t)
	p.session(`echo mine >> a.txt; printf '#!/bin/sh\n' > tool; chmod +x tool; : > "$(printf 'z\376')"; : > "$(printf 'z\377')"`)
	address, cmd, out := serveReviewPage(t, p)
	base, token, _ := strings.Cut(address, "/#")
	if !strings.HasPrefix(base, "http://127.0.0.1:") {
		t.Fatalf("the address is %q", address)
	}
	var secrets []string
	ask := func(method, url, body string, header ...string) (int, string) {
		t.Helper()
		r, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			if header[i] == "Host" {
				r.Host = header[i+1]
			}
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for _, secret := range secrets {
			if told := fmt.Sprint(resp.Header); strings.Contains(told, secret[:16]) || strings.Contains(told, "Set-Cookie") {
				t.Errorf("a header tells the secret: %s", told)
			}
		}
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	get := func(url string, header ...string) (int, string) {
		t.Helper()
		return ask(http.MethodGet, url, "", header...)
	}
	for _, given := range []string{"", "0", token} {
		if code, _ := get(base+"/changes", reviewHeader, given); code != http.StatusForbidden {
			t.Errorf("the changes for %q: %d", given, code)
		}
	}
	if code, _ := get(base+"/", "Host", "example.com"); code != http.StatusMisdirectedRequest {
		t.Errorf("another host: %d", code)
	}
	if code, page := get(base + "/"); code != http.StatusOK || !strings.Contains(page, "<title>Review</title>") || strings.Contains(page, "{{nonce}}") || strings.Contains(page, p.dir) {
		t.Fatalf("the page: %d %.200s", code, page)
	}
	if code, _ := ask(http.MethodPost, base+"/open", "", "Origin", "http://127.0.0.1:1", reviewHeader, token); code != http.StatusForbidden {
		t.Errorf("opened by another server's page: %d", code)
	}
	code, text := ask(http.MethodPost, base+"/open", "", "Origin", base, reviewHeader, token)
	var opened struct{ Key string }
	if err := json.Unmarshal([]byte(text), &opened); err != nil || code != http.StatusOK || len(opened.Key) != 32 {
		t.Fatalf("opened: %d %s", code, text)
	}
	if code, _ := ask(http.MethodPost, base+"/open", "", "Origin", base, reviewHeader, token); code != http.StatusForbidden {
		t.Errorf("the address was good twice: %d", code)
	}
	secrets = []string{token, opened.Key}
	post := func(path, body string, header ...string) (int, string) {
		t.Helper()
		return ask(http.MethodPost, base+path, body, append(header, reviewHeader, opened.Key)...)
	}
	code, text = get(base+"/changes", reviewHeader, opened.Key)
	var list struct{ Changes []webChange }
	if err := json.Unmarshal([]byte(text), &list); err != nil || code != http.StatusOK || len(list.Changes) != 4 || len(list.Changes[0].Hunks) != 1 {
		t.Fatalf("changes: %d %s", code, text)
	}
	seen := list.Changes[0].Seen
	if code, text := post("/do", `{"op":"apply","path":"a.txt","hunk":-1}`, "Origin", base); code != http.StatusConflict {
		t.Errorf("nothing that was shown: %d %s", code, text)
	}
	if _, text := post("/do", `{"op":"apply","path":"a.txt","hunk":-1,"seen":{"a.txt":"0"}}`, "Origin", base); !strings.Contains(text, "changed since it was shown") {
		t.Errorf("another change: %s", text)
	}
	apply := `{"op":"apply","path":"a.txt","hunk":-1,"seen":{"a.txt":"` + seen + `"}}`
	for _, header := range [][]string{{}, {"Origin", "http://evil.example"}, {"Origin", base, "Sec-Fetch-Site", "cross-site"}, {"Origin", "null"}} {
		if code, _ := post("/do", apply, header...); code != http.StatusForbidden {
			t.Errorf("from %q: %d", header, code)
		}
	}
	expect(t, p.dir+"/a.txt", "one\ntwo\n")
	if code, text := post("/do", apply, "Origin", base); code != http.StatusOK || !strings.Contains(text, `"done":["a.txt"]`) {
		t.Errorf("apply: %d %s", code, text)
	}
	expect(t, p.dir+"/a.txt", "one\ntwo\nmine\n")
	if _, text := post("/do", `{"op":"apply","path":"tool","hunk":-1,"seen":{"tool":"`+list.Changes[1].Seen+`"}}`, "Origin", base); !strings.Contains(text, "executable") {
		t.Errorf("a program without a yes: %s", text)
	}
	// Names that are not text are two, and each can be named.
	name, err := json.Marshal(list.Changes[3].Path)
	if err != nil {
		t.Fatal(err)
	}
	if code, text := post("/do", `{"op":"apply","path":`+string(name)+`,"hunk":-1,"seen":{`+string(name)+`:"`+list.Changes[3].Seen+`"}}`, "Origin", base); code != http.StatusOK || !strings.Contains(text, `"done":[`+string(name)+`]`) {
		t.Errorf("apply: %d %s", code, text)
	}
	expect(t, p.dir+"/z\xff", "")
	if code, _ := post("/end", "", "Origin", base); code != http.StatusNoContent {
		t.Errorf("end: %d", code)
	}
	rest, _ := io.ReadAll(out)
	if err := cmd.Wait(); err != nil || !strings.Contains(string(rest), "2 applied, 0 discarded") {
		t.Errorf("the end: %v %s", err, rest)
	}
	if _, err := os.Lstat(p.dir + "/tool"); err == nil {
		t.Error("a program was applied without a yes")
	}
}
