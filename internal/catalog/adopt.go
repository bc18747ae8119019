package catalog

import (
	"maps"
	"reflect"

	"go.yaml.in/yaml/v3"

	"github.com/writ-project/writ/internal/access"
)

// Adopt writes the file of that name that declares one identity, and makes sure that Parse takes it together with the other
// files, as exactly that identity, which is known by exact subjects and has no attributes. An error is Faults, as of Parse: of
// the new file, and of those that are there.
func Adopt(files map[string][]byte, name string, identity access.Identity) ([]byte, error) {
	if _, ok := files[name]; ok {
		return nil, Faults{{File: name, Message: "the file is there already: move it, or add the identity to it by hand"}}
	}
	text, _ := yaml.Marshal(map[string][]any{"identities": {documentOf(&identity)}}) // texts always marshal
	all := maps.Clone(files)
	if all == nil {
		all = map[string][]byte{}
	}
	all[name] = text
	parsed, err := Parse(all)
	if err != nil {
		return nil, err
	}
	for i := range parsed.Identities {
		if reflect.DeepEqual(parsed.Identities[i], identity) {
			return text, nil
		}
	}
	return nil, Faults{{File: name, Message: "YAML cannot say this identity as it was given: remove white space at the ends of its texts"}}
}

// documentOf is an identity as a file declares it.
func documentOf(i *access.Identity) any {
	type match struct {
		Issuer  string `yaml:"issuer"`
		Subject string `yaml:"subject"`
	}
	document := struct {
		ID        string  `yaml:"id"`
		Owner     string  `yaml:"owner,omitempty"`
		Purpose   string  `yaml:"purpose,omitempty"`
		Principal string  `yaml:"principal,omitempty"`
		ReviewBy  string  `yaml:"review_by,omitempty"`
		Match     []match `yaml:"match"`
	}{ID: i.ID.String(), Owner: i.Owner.String(), Purpose: i.Purpose, Principal: i.Principal.String(), ReviewBy: i.ReviewBy}
	for _, m := range i.Match {
		subject, _ := m.Subject.Exact()
		document.Match = append(document.Match, match{m.Issuer, subject})
	}
	return document
}
