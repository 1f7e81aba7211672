// Check decodes manifests strictly into the types of the Kubernetes API: a field that
// does not exist, or has another type, fails.
package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	apps "k8s.io/api/apps/v1"
	scaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	net "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// template is SandboxTemplate of extensions.agents.x-k8s.io/v1beta1
// (kubernetes-sigs/agent-sandbox, extensions/api/v1beta1/sandboxtemplate_types.go and
// api/v1beta1/sandbox_types.go), whose module no proxy of Go has.
type template struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`
	Spec            struct {
		PodTemplate             core.PodTemplateSpec         `json:"podTemplate"`
		VolumeClaimTemplates    []core.PersistentVolumeClaim `json:"volumeClaimTemplates"`
		NetworkPolicyManagement string                       `json:"networkPolicyManagement"`
		EnvVarsInjectionPolicy  string                       `json:"envVarsInjectionPolicy"`
		NetworkPolicy           struct {
			Ingress []net.NetworkPolicyIngressRule `json:"ingress"`
			Egress  []net.NetworkPolicyEgressRule  `json:"egress"`
		} `json:"networkPolicy"`
	} `json:"spec"`
}

func main() {
	kinds := map[string]func() any{
		"v1/Namespace": func() any { return &core.Namespace{} }, "v1/Service": func() any { return &core.Service{} },
		"v1/PersistentVolumeClaim": func() any { return &core.PersistentVolumeClaim{} },
		"apps/v1/Deployment":       func() any { return &apps.Deployment{} }, "apps/v1/StatefulSet": func() any { return &apps.StatefulSet{} },
		"policy/v1/PodDisruptionBudget":                      func() any { return &policy.PodDisruptionBudget{} },
		"networking.k8s.io/v1/NetworkPolicy":                 func() any { return &net.NetworkPolicy{} },
		"autoscaling/v2/HorizontalPodAutoscaler":             func() any { return &scaling.HorizontalPodAutoscaler{} },
		"extensions.agents.x-k8s.io/v1beta1/SandboxTemplate": func() any { return &template{} },
	}
	failed, n := false, 0
	for _, file := range os.Args[1:] {
		text, err := os.ReadFile(file)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for _, doc := range bytes.Split(text, []byte("\n---\n")) {
			var t meta.TypeMeta
			if err := yaml.Unmarshal(doc, &t); err != nil {
				fmt.Println(file, err)
				os.Exit(1)
			}
			if strings.HasPrefix(t.APIVersion, "kustomize") {
				continue
			}
			into := kinds[t.APIVersion+"/"+t.Kind]
			if into == nil {
				fmt.Printf("%s: no type for %s %s\n", file, t.APIVersion, t.Kind)
				failed = true
				continue
			}
			n++
			if err := yaml.UnmarshalStrict(doc, into()); err != nil {
				fmt.Printf("%s: %s: %v\n", file, t.Kind, err)
				failed = true
			}
		}
	}
	fmt.Println(n, "objects have the shape of the Kubernetes API")
	if failed {
		os.Exit(1)
	}
}
