package app

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

// TestConfigurationReference holds docs/configuration.md to the configuration struct and its comments.
func TestConfigurationReference(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "configuration.md")
	want := reference(t)
	if *update {
		if err := os.WriteFile(path, want, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Error("docs/configuration.md is not what the configuration struct says: run `make docs`")
	}
}

func reference(t *testing.T) []byte {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	structs := map[string]*ast.StructType{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			if s, ok := spec.Type.(*ast.StructType); ok {
				structs[spec.Name.Name] = s
			}
		}
		return true
	})
	defaults := map[string]any{}
	encoded, err := yaml.Marshal(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(encoded, &defaults); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	out.WriteString("# Configuration\n\nOne YAML file, `writ.yaml`. Unknown keys are refused; relative paths are relative to the file; all faults are reported at once, and the process\n" +
		"refuses to start when a setting is unsafe. This page is made from the struct in `internal/app/config.go`.\n\n| key | default | meaning |\n|---|---|---|\n")
	describe(&out, structs, "Config", "", defaults)
	return out.Bytes()
}

func describe(out *bytes.Buffer, structs map[string]*ast.StructType, name, prefix string, defaults map[string]any) {
	for _, field := range structs[name].Fields.List {
		key := prefix + reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("yaml")
		short := key[strings.LastIndex(key, ".")+1:]
		words := strings.ReplaceAll(strings.TrimSpace(field.Doc.Text()), "\n", " ")
		for _, verb := range []string{" is ", " are "} {
			if rest, ok := strings.CutPrefix(words, field.Names[0].Name+verb); ok {
				words = strings.ToUpper(rest[:1]) + rest[1:]
			}
		}
		value := defaults[short]
		inner, nested := map[string]any{}, ""
		switch typ := field.Type.(type) {
		case *ast.Ident:
			if structs[typ.Name] != nil {
				nested = typ.Name
				inner, _ = value.(map[string]any)
			}
		case *ast.ArrayType:
			if id, ok := typ.Elt.(*ast.Ident); ok && structs[id.Name] != nil {
				nested, key = id.Name, key+"[]"
			}
		}
		if nested != "" {
			fmt.Fprintf(out, "| `%s` | | %s |\n", key, words)
			describe(out, structs, nested, key+".", inner)
			continue
		}
		shown := ""
		if value != nil && value != "" && fmt.Sprint(value) != "[]" {
			shown = fmt.Sprintf("`%v`", value)
		}
		fmt.Fprintf(out, "| `%s` | %s | %s |\n", key, shown, words)
	}
}

func TestUnsafeConfigurationIsRefused(t *testing.T) {
	safe := func() Config {
		c := DefaultConfig()
		c.URL = "http://127.0.0.1:8420"
		c.Issuers = []Issuer{{URL: "https://idp.example.com", Audience: "writ"}}
		return c
	}
	if c := safe(); c.Check() != nil {
		t.Fatalf("the default with a URL and an issuer must be safe: %v", c.Check())
	}
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"reachable from outside without TLS":              {func(c *Config) { c.Listen = "0.0.0.0:80" }, "listen:"},
		"a URL without TLS":                               {func(c *Config) { c.URL = "http://writ.example.com" }, "must be https"},
		"nobody can call":                                 {func(c *Config) { c.Issuers = nil }, "issuers:"},
		"our own tokens as logins":                        {func(c *Config) { c.Issuers[0].URL = c.URL }, "issuers[0].url: Writ's own tokens"},
		"logins that pass for client assertions":          {func(c *Config) { c.Issuers[0].Audience = c.URL }, "client assertions alone"},
		"people's tokens that pass for client assertions": {func(c *Config) { c.Issuers[0].PrincipalAudience = c.URL }, "client assertions alone"},
		"logins that pass for actor tokens":               {func(c *Config) { c.Issuers[0].Audience = c.URL + "/oauth/actor" }, "issuers[0]"},
		"SVIDs that pass for client assertions":           {func(c *Config) { c.SPIFFE.Audience = c.URL }, "spiffe.audience:"},
		"no signing key":                                  {func(c *Config) { c.Tokens.Keys = nil }, "tokens.keys:"},
		"half a certificate":                              {func(c *Config) { c.TLS.Key = "k" }, "tls:"},
		"a limit that is no number":                       {func(c *Config) { c.Limits.RequestsPerSecond = math.NaN() }, "limits.requests_per_second:"},
		"a limit without end":                             {func(c *Config) { c.Limits.RequestsPerSecond = math.Inf(1) }, "limits.requests_per_second:"},
		"no limits":                                       {func(c *Config) { c.Limits.Burst = 0 }, "limits:"},
		"a password in the database's URL":                {func(c *Config) { c.Database = "postgres://writ:secret@localhost/writ" }, "holds a password"},
		"a password beside it":                            {func(c *Config) { c.Database = "postgres://writ@localhost/writ?password=secret" }, "holds a password"},
		"a database over the network":                     {func(c *Config) { c.Database = "postgres://writ@db.example.com/writ" }, "sslmode=verify-full"},
		"TLS to anybody":                                  {func(c *Config) { c.Database = "postgres://writ@db.example.com/writ?sslmode=require" }, "sslmode=verify-full"},
		"no URL of a database":                            {func(c *Config) { c.Database = "mysql://x" }, "must be a URL such as"},
		"a witness without TLS":                           {func(c *Config) { c.Witnesses.Ask = []Witness{{URL: "http://w.example.com", Key: "w"}} }, "witnesses: the URL of a witness"},
		"a witness's key that is none":                    {func(c *Config) { c.Witnesses.Ask = []Witness{{URL: "https://w.example.com", Key: "w"}} }, "malformed key"},
		"more witnesses than there are":                   {func(c *Config) { c.Witnesses.Required = 1 }, "witnesses:"},
	} {
		c := safe()
		test.change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
	c := Config{}
	if err := c.Check(); err == nil || strings.Count(err.Error(), "\n") < 5 {
		t.Errorf("not all faults at once: %v", err)
	}
}
