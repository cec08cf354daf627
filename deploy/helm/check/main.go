// Reads the manifests of a chart (`helm template`) on standard input as Kubernetes' own types, strictly: a field that does not
// exist, or is of another type, is an error. It then checks what the types do not say: names that refer to each other.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// Chart is what was found.
type Chart struct {
	sets     []*apps.StatefulSet
	services []*core.Service
	budgets  []*policy.PodDisruptionBudget
	monitors []*monitoring.ServiceMonitor
}

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail(err)
	}
	var chart Chart
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		if err := chart.read(document); err != nil {
			fail(err)
		}
	}
	if err := chart.check(); err != nil {
		fail(err)
	}
	fmt.Printf("%d StatefulSet, %d Services, %d PodDisruptionBudget, %d ServiceMonitor\n",
		len(chart.sets), len(chart.services), len(chart.budgets), len(chart.monitors))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func (c *Chart) read(document []byte) error {
	var what meta.TypeMeta
	if err := yaml.Unmarshal(document, &what); err != nil {
		return err
	}
	var object meta.Object
	switch what.APIVersion + " " + what.Kind {
	case " ":
		return nil
	case "apps/v1 StatefulSet":
		made := &apps.StatefulSet{}
		c.sets, object = append(c.sets, made), made
	case "v1 Service":
		made := &core.Service{}
		c.services, object = append(c.services, made), made
	case "policy/v1 PodDisruptionBudget":
		made := &policy.PodDisruptionBudget{}
		c.budgets, object = append(c.budgets, made), made
	case "monitoring.coreos.com/v1 ServiceMonitor":
		made := &monitoring.ServiceMonitor{}
		c.monitors, object = append(c.monitors, made), made
	default:
		return fmt.Errorf("%s %s is new here: teach deploy/helm/check its type", what.APIVersion, what.Kind)
	}
	if err := yaml.UnmarshalStrict(document, object); err != nil {
		return fmt.Errorf("%s: %w", what.Kind, err)
	}
	var wrong []error
	for _, reason := range validation.IsDNS1123Label(object.GetName()) {
		wrong = append(wrong, fmt.Errorf("%s %q: %s", what.Kind, object.GetName(), reason))
	}
	for name, value := range object.GetLabels() {
		for _, reason := range append(validation.IsQualifiedName(name), validation.IsValidLabelValue(value)...) {
			wrong = append(wrong, fmt.Errorf("%s %q: label %s=%s: %s", what.Kind, object.GetName(), name, value, reason))
		}
	}
	return errors.Join(wrong...)
}

func (c *Chart) check() error {
	if len(c.sets) != 1 || *c.sets[0].Spec.Replicas != 1 {
		return errors.New("there is not one StatefulSet of one pod")
	}
	set := c.sets[0]
	pod := set.Spec.Template
	names := labels.Set(pod.Labels)
	if selector, err := meta.LabelSelectorAsSelector(set.Spec.Selector); err != nil || !selector.Matches(names) {
		return fmt.Errorf("the StatefulSet does not select its pod: %v", err)
	}
	headless := false
	for _, service := range c.services {
		if !labels.SelectorFromSet(service.Spec.Selector).Matches(names) {
			return fmt.Errorf("service %s selects no pod", service.Name)
		}
		headless = headless || service.Name == set.Spec.ServiceName && service.Spec.ClusterIP == core.ClusterIPNone
	}
	if !headless {
		return fmt.Errorf("there is no headless service %s", set.Spec.ServiceName)
	}
	for _, budget := range c.budgets {
		if selector, err := meta.LabelSelectorAsSelector(budget.Spec.Selector); err != nil || !selector.Matches(names) {
			return fmt.Errorf("the PodDisruptionBudget selects no pod: %v", err)
		}
	}
	for _, monitor := range c.monitors {
		selector, err := meta.LabelSelectorAsSelector(&monitor.Spec.Selector)
		found := 0
		for _, service := range c.services {
			if err == nil && selector.Matches(labels.Set(service.Labels)) {
				found++
			}
		}
		if found != 1 {
			return fmt.Errorf("the ServiceMonitor selects %d services, so it scrapes as often: %v", found, err)
		}
	}
	return checkPod(pod.Spec, set.Spec.VolumeClaimTemplates)
}

func checkPod(pod core.PodSpec, claims []core.PersistentVolumeClaim) error {
	if grace := pod.TerminationGracePeriodSeconds; grace == nil || *grace != 15 {
		return errors.New("the grace is not 15 s")
	}
	volumes := map[string]bool{}
	for _, volume := range pod.Volumes {
		volumes[volume.Name] = true
	}
	for _, claim := range claims {
		volumes[claim.Name] = true
	}
	container := pod.Containers[0]
	for _, mount := range container.VolumeMounts {
		if !volumes[mount.Name] {
			return fmt.Errorf("there is no volume %s", mount.Name)
		}
	}
	seen := map[string]bool{}
	for _, variable := range container.Env {
		if seen[variable.Name] {
			return fmt.Errorf("%s is set twice", variable.Name)
		}
		seen[variable.Name] = true
		for _, reason := range validation.IsEnvVarName(variable.Name) {
			return fmt.Errorf("%s: %s", variable.Name, reason)
		}
	}
	if !seen["FREQCAP_KEYS_FILE"] && !seen["FREQCAP_OPEN"] {
		return errors.New("neither keys nor open")
	}
	for name, probe := range map[string]*core.Probe{
		"liveness": container.LivenessProbe, "readiness": container.ReadinessProbe, "startup": container.StartupProbe,
	} {
		if probe == nil || probe.HTTPGet == nil || !strings.HasSuffix(probe.HTTPGet.Path, "z") {
			return fmt.Errorf("no %s probe", name)
		}
	}
	return nil
}
