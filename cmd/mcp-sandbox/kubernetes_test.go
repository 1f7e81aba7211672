package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// TestKubernetesExample keeps packaging/kubernetes in step with the program: its
// flags are ours, the router knows every server and its port, and nginx takes its
// configuration, save for the names that only a cluster can look up.
func TestKubernetesExample(t *testing.T) {
	dir := filepath.Join("..", "..", "packaging", "kubernetes")
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	servers, router := read("servers.yaml"), read("nginx.conf")

	_, port := manifestServer(t, servers)

	upstream := regexp.MustCompile(`mcp-sandbox-(\d+)\.mcp-sandbox-servers\.mcp-sandbox\.svc\.cluster\.local:(\d+) resolve`)
	all := upstream.FindAllStringSubmatch(router, -1)
	// Once by the session, once for what a server refused.
	found := all[:len(all)/2]
	for i := range found {
		if len(all)%2 != 0 || all[i][0] != all[i+len(found)][0] {
			t.Errorf("the router's two lists differ: %v", all)
		}
	}
	if !strings.Contains(servers, fmt.Sprintf("replicas: %d\n", len(found))) || !strings.Contains(servers, "serviceName: mcp-sandbox-servers\n") {
		t.Errorf("the router knows %d servers, which is not what there is", len(found))
	}
	for i, m := range found {
		if m[1] != fmt.Sprint(i) || m[2] != port {
			t.Errorf("the router's server %d is %s", i, m[0])
		}
	}

	nginx, tmp := nginxPath(t), t.TempDir()
	router = upstream.ReplaceAllString(router, "127.0.0.1:$2")
	router = regexp.MustCompile(`(?m)^ *resolver .*\n`).ReplaceAllString(router, "")
	router = strings.ReplaceAll(router, "/tmp/", tmp+"/")
	routes, err := os.ReadFile(filepath.Join(dir, "..", "nginx", "affinity.conf"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"nginx.conf": router, "affinity.conf": string(routes)} {
		if err := os.WriteFile(filepath.Join(tmp, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(nginx, "-t", "-p", tmp, "-c", filepath.Join(tmp, "nginx.conf")).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// manifestServer reads the flags of the server in a manifest, and its port, which must
// be one of the container.
func manifestServer(t *testing.T, manifest string) (s *settings, port string) {
	t.Helper()
	var args []string
	for _, m := range regexp.MustCompile(`(?m)^ +- (--[a-z-]+=\S+)$`).FindAllStringSubmatch(manifest, -1) {
		args = append(args, m[1])
	}
	s = &settings{}
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	s.register(f)
	if err := f.Parse(args); err != nil || len(args) < 5 {
		t.Errorf("%v: %v", args, err)
	}
	if err := s.loadHTTP(); err != nil {
		t.Error(err)
	}
	_, port, _ = strings.Cut(s.http.listen, "0.0.0.0:")
	if !strings.Contains(manifest, "containerPort: "+port+"}") {
		t.Errorf("the server listens on %s, which is not a port of the container", s.http.listen)
	}
	return s, port
}

// TestKubernetesBucket: the servers that share a bucket, and the pod of
// agent-sandbox: their flags are ours, a pod's files end with it or lie on its own
// volume, and what scales them is a metric that the server has, below its limit.
func TestKubernetesBucket(t *testing.T) {
	dir := filepath.Join("..", "..", "packaging", "kubernetes")
	read := func(name ...string) string {
		b, err := os.ReadFile(filepath.Join(dir, filepath.Join(name...)))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	servers := read("bucket", "servers.yaml")
	s, port := manifestServer(t, servers)
	for _, want := range []string{"kind: Deployment", "emptyDir: {sizeLimit: 40Gi}", "path: /readyz", "preStop:", "kind: PodDisruptionBudget", "--peer-url=http://$(POD_IP):" + port, "secretName: mcp-sandbox-key"} {
		if !strings.Contains(servers, want) {
			t.Errorf("servers.yaml lacks %s", want)
		}
	}
	if strings.Contains(servers, "persistentVolumeClaim") {
		t.Error("a server of a bucket has a volume that stays")
	}
	var grace int
	if m := regexp.MustCompile(`terminationGracePeriodSeconds: (\d+)`).FindStringSubmatch(servers); m != nil {
		grace, _ = strconv.Atoi(m[1])
	}
	if pause := 5 * time.Second; time.Duration(grace)*time.Second < pause+suspendPatience {
		t.Errorf("the pod is killed after %d s, and the stop may take %v", grace, pause+suspendPatience)
	}
	scaler := read("bucket", "autoscaler.yaml")
	target := regexp.MustCompile(`averageValue: "(\d+)"`).FindStringSubmatch(scaler)
	if !strings.Contains(scaler, "metric: {name: mcp_sandbox_sessions}") || target == nil {
		t.Fatal("the autoscaler goes by another metric")
	}
	if n, _ := strconv.Atoi(target[1]); n >= s.session.MaxSessions {
		t.Errorf("the autoscaler aims at %d sessions, and a server takes %d", n, s.session.MaxSessions)
	}
	template := read("agent-sandbox", "template.yaml")
	manifestServer(t, template)
	if read("namespace.yaml") != read("bucket", "namespace.yaml") {
		t.Error("the two namespaces differ")
	}
}
