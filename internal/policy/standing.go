package policy

import (
	"time"

	"go.yaml.in/yaml/v3"
)

// standingFile is where a bundle says what the rules before policy leave to policy.
const standingFile = "standing.yaml"

// maxGrace bounds how long what somebody owned may go on after they left.
const maxGrace = 30 * 24 * time.Hour

// OwnerGrace is how long an identity goes on after its owner was retired, from 0 to 30 days; 0 where the bundle sets none.
func (b *Bundle) OwnerGrace() time.Duration { return b.grace }

// loadStanding reads standing.yaml; an empty one sets nothing.
func loadStanding(text []byte, faults *faultList) (grace time.Duration) {
	root := parseYAML(standingFile, text, faults)
	if root == nil {
		return 0
	}
	for _, pair := range pairs(standingFile, root, standingFile, faults) {
		name, value := pair[0], pair[1]
		if name.Value != "owner_grace" {
			faults.add(placeOf(standingFile, name), "unknown key %s: want owner_grace", clip(name.Value))
			continue
		}
		grace = graceOf(value, faults)
	}
	return grace
}

func graceOf(n *yaml.Node, faults *faultList) time.Duration {
	d, err := time.ParseDuration(n.Value)
	switch {
	case n.Kind != yaml.ScalarNode || err != nil:
		faults.add(placeOf(standingFile, n), "owner_grace is a duration such as 72h")
	case d < 0 || d > maxGrace || d%time.Second != 0:
		faults.add(placeOf(standingFile, n), "owner_grace is 0s to 720h, in whole seconds")
	default:
		return d
	}
	return 0
}
