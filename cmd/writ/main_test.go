package main

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/examples/starter"
	"github.com/writ-project/writ/internal/access"
	"github.com/writ-project/writ/internal/sandbox"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"writ": main})
}

// TestScripts runs testdata/*.txt: the command line, as a user would read it. Each script finds a server of the starter site
// at $WRIT_SERVER, tokens of everybody as $SUPPORT, $BOB, …, its data folder as $DATA, and an order o-1 of 1200.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup:               func(env *testscript.Env) error { return installation(t, env) },
	})
}

func installation(t *testing.T, env *testscript.Env) error {
	folder := filepath.Join(env.WorkDir, ".server")
	server, err := sandbox.Start(t.Context(), sandbox.Options{Folder: folder, Site: func(issuer string) map[string][]byte {
		files, err := starter.Site(issuer)
		if err != nil {
			panic(err)
		}
		return files
	}})
	if err != nil {
		return err
	}
	env.Defer(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	env.Setenv("WRIT_SERVER", server.URL)
	env.Setenv("DATA", server.Data())
	env.Setenv("SITE", folder)
	for name, identity := range map[string]string{
		"SUPPORT": `Agent::"support-bot"`, "TRIAGE": `Agent::"triage-bot"`, "LOOKUP": `Agent::"lookup-bot"`, "REPORT": `Agent::"report-bot"`, "BOB": `Human::"bob"`, "DANA": `Human::"dana"`, "SAM": `Human::"sam"`,
		"ORDERS": `Workload::"order-system"`, "NIGHT": `Workload::"night-batch"`, // whom no catalog knows
	} {
		file, err := server.TokenFile(access.MustRef(identity), time.Hour)
		if err != nil {
			return err
		}
		env.Setenv(name, file)
	}
	orders, err := client.New(server.URL, client.Options{TokenFile: env.Getenv("ORDERS")})
	if err != nil {
		return err
	}
	_, err = orders.PushFacts(t.Context(), client.Facts{Facts: []client.Fact{
		{ID: `Order::"o-1"`, Attributes: json.RawMessage(`{"status":"delivered","total":1200}`)},
	}})
	return err
}
