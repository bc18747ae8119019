package access

import "testing"

func TestATraceIsReadOrIgnored(t *testing.T) {
	const id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	for name, x := range map[string]struct {
		values []string
		want   string
	}{
		"one":             {[]string{"00-" + id + "-" + parent + "-01"}, id},
		"none":            {nil, ""},
		"two":             {[]string{"00-" + id + "-" + parent + "-01", "00-" + id + "-" + parent + "-01"}, ""},
		"another version": {[]string{"01-" + id + "-" + parent + "-01"}, ""},
		"upper case":      {[]string{"00-4BF92F3577B34DA6A3CE929D0E0E4736-" + parent + "-01"}, ""},
		"all zero":        {[]string{"00-00000000000000000000000000000000-" + parent + "-01"}, ""},
	} {
		if got := TraceOf(x.values); got != x.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
