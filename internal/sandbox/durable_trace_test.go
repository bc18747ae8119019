package sandbox_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/writ-project/writ/client"
	"github.com/writ-project/writ/internal/strace"
)

// No HTTP answer with an evidence index leaves the server before that entry is flushed, while many callers share commits.
func TestI2_NoHTTPAnswerBeforeItsFlush(t *testing.T) {
	const callers, each = 12, 25
	server := start(t)
	orders := as(t, server, `Workload::"order-system"`)
	attached, err := strace.Attach(t.Context(), filepath.Join(t.TempDir(), "trace"),
		[]string{"-f", "-s", "65536", "-e", "trace=pwrite64,write,fdatasync,fsync"}, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			for n := range each {
				_, err := orders.PushFacts(t.Context(), client.Facts{Facts: []client.Fact{
					{ID: fmt.Sprintf(`Order::"o-%d-%d"`, i, n), Attributes: json.RawMessage(`{"status":"delivered","total":100}`)},
				}})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	calls, err := attached.Stop()
	if err != nil {
		t.Fatal(err)
	}
	var answers []strace.Answer
	flushes := 0
	evidence := regexp.MustCompile(`"evidence":\{[^}]*"index":(\d+)`)
	for _, c := range calls {
		_, file := c.File()
		data := string(c.Data())
		if c.Name == "write" && strings.HasPrefix(file, "socket:") && strings.HasPrefix(data, "HTTP/1.1 ") {
			for _, m := range evidence.FindAllStringSubmatch(data, -1) {
				answers = append(answers, strace.Answer{ID: m[1], Line: c.Began})
			}
		}
		if strings.HasSuffix(file, "-wal") && strings.HasPrefix(c.Name, "f") {
			flushes++
		}
	}
	t.Logf("%d answers, %d flushes", len(answers), flushes)
	if len(answers) != callers*each || flushes >= len(answers) {
		t.Error("that is not what was to be checked")
	}
	if wrong := strace.TooEarly(calls, answers, strace.InSQLite(calls)); len(wrong) > 0 {
		t.Errorf("%d answers came too early, the first: %s", len(wrong), wrong[0])
	}
}
