package halcyon_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

func user(t testing.TB, name string) *halcyon.Identity {
	t.Helper()
	i, err := halcyon.IdentityFromClaims(fmt.Appendf(nil, `{"iss":"https://issuer.test","sub":%q,"name":%q}`, name, name))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestIdentityFromClaims(t *testing.T) {
	got, err := halcyon.IdentityFromClaims([]byte(`{"iss":"https://a.test","sub":"u1","aud":["x"],"exp":1,"iat":2.5,"nbf":3,"jti":"j","nonce":"n","at_hash":"h",
		"name":"Ann","given_name":"A","family_name":"N","nickname":"an","preferred_username":"ann","profile":"https://p","picture":"https://q",
		"email":"a@b.c","email_verified":true,"gender":"f","birthdate":"2000-01-02","zoneinfo":"Europe/Berlin","locale":"de","phone_number":"+1",
		"phone_number_verified":"true","address":{"formatted":"Street 1"},"updated_at":1700000000,
		"roles":["admin","editor"],"https://a.test/plan":{"b":1,"a":2}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := halcyon.Identity{
		TokenIdentifier: "https://a.test|u1", Issuer: "https://a.test", Subject: "u1", Name: "Ann", GivenName: "A", FamilyName: "N", Nickname: "an",
		PreferredUsername: "ann", ProfileURL: "https://p", PictureURL: "https://q", Email: "a@b.c", EmailVerified: true, Gender: "f",
		Birthday: "2000-01-02", Timezone: "Europe/Berlin", Language: "de", PhoneNumber: "+1", PhoneNumberVerified: true, Address: "Street 1",
		UpdatedAt: "2023-11-14T22:13:20Z",
	}
	if diff := cmp.Diff(want, *got, cmpopts.IgnoreUnexported(halcyon.Identity{})); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	var roles []string
	if ok, err := got.Claim("roles", &roles); !ok || err != nil || !cmp.Equal(roles, []string{"admin", "editor"}) {
		t.Errorf("claim roles: %v, %v, %v", roles, ok, err)
	}
	var plan map[string]int
	if ok, err := got.Claim("https://a.test/plan", &plan); !ok || err != nil || plan["b"] != 1 {
		t.Errorf("claim plan: %v, %v, %v", plan, ok, err)
	}
	var n int
	if ok, err := got.Claim("roles", &n); !ok || err == nil {
		t.Errorf("claim roles as a number: %v, %v", ok, err)
	}
	for _, name := range []string{"exp", "iat", "nbf", "jti", "aud", "nonce", "at_hash", "iss", "name", "nothing"} {
		if ok, err := got.Claim(name, &n); ok || err != nil {
			t.Errorf("claim %s: %v, %v", name, ok, err)
		}
	}
	if got.String() != want.TokenIdentifier {
		t.Errorf("String() = %q", got)
	}
}

func TestIdentityRefusals(t *testing.T) {
	for _, tt := range []struct{ name, claims string }{
		{"nothing", ``},
		{"null", `null`},
		{"a list", `[]`},
		{"two objects", `{"iss":"a","sub":"b"} {}`},
		{"no subject", `{"iss":"a"}`},
		{"no issuer", `{"sub":"a"}`},
		{"empty subject", `{"iss":"a","sub":""}`},
		{"subject is a number", `{"iss":"a","sub":7}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := halcyon.IdentityFromClaims([]byte(tt.claims)); err == nil {
				t.Errorf("claims %s: %+v", tt.claims, got)
			}
		})
	}
	for _, attributes := range []string{`{"name":"x"}`, `{"iss":"a","sub":"b"}`, `{"issuer":"a","subject":"b","tokenIdentifier":"c|b"}`} {
		if got, err := halcyon.IdentityFromAttributes([]byte(attributes)); err == nil {
			t.Errorf("attributes %s: %+v", attributes, got)
		}
	}
	got, err := halcyon.IdentityFromAttributes([]byte(`{"issuer":"a","subject":"b","tokenIdentifier":"a|b","givenName":"G","emailVerified":true,"role":"x"}`))
	var role string
	if err != nil || got.GivenName != "G" || !got.EmailVerified || got.TokenIdentifier != "a|b" {
		t.Fatalf("%+v, %v", got, err)
	}
	if ok, err := got.Claim("role", &role); !ok || err != nil || role != "x" {
		t.Errorf("claim role: %q, %v, %v", role, ok, err)
	}
}

func FuzzIdentityFromClaims(f *testing.F) {
	f.Add([]byte(`{"iss":"a","sub":"b","updated_at":1e300,"address":{"formatted":1},"x":[{"$integer":"AA=="}]}`))
	f.Add([]byte(`{"iss":"\ud800","sub":"b","updated_at":-99999999999999999999,"email_verified":"TRUE"}`))
	f.Fuzz(func(t *testing.T, claims []byte) {
		i, err := halcyon.IdentityFromClaims(claims)
		if err != nil {
			return
		}
		if i.Issuer == "" || i.Subject == "" || i.TokenIdentifier != i.Issuer+"|"+i.Subject {
			t.Errorf("%q: %+v", claims, i)
		}
	})
}

// identityModule has functions of every kind that say who calls.
func identityModule(ran func(function, who string)) *halcyon.Module {
	m, counters := counterModule()
	name := func(i halcyon.Identity, ok bool) string {
		if !ok {
			return "nobody"
		}
		return i.Subject
	}
	m.Query("me", func(tx *halcyon.Tx) (string, error) {
		who := name(tx.Identity())
		ran("me", who)
		return who, nil
	})
	m.Query("identity", func(tx *halcyon.Tx) (*halcyon.Identity, error) {
		if i, ok := tx.Identity(); ok {
			return &i, nil
		}
		return nil, nil
	})
	m.Query("plain", func(tx *halcyon.Tx) (int, error) {
		ran("plain", "")
		c, _, err := counters.By("by_name").Eq("a").First(tx)
		return c.N, err
	})
	// sometimes looks at the identity while the counter is odd.
	m.Query("sometimes", func(tx *halcyon.Tx) (string, error) {
		c, _, err := counters.By("by_name").Eq("a").First(tx)
		if err != nil || c.N%2 == 0 {
			ran("sometimes", "")
			return fmt.Sprint(c.N), err
		}
		who := name(tx.Identity())
		ran("sometimes", who)
		return fmt.Sprint(c.N, " ", who), nil
	})
	m.Query("nested", func(tx *halcyon.Tx) (string, error) {
		var who string
		err := tx.RunQuery("me", nil, &who)
		return "nested " + who, err
	})
	m.Query("refuses", func(tx *halcyon.Tx) (string, error) {
		if _, ok := tx.Identity(); !ok {
			return "", &halcyon.Error{Code: "SignIn", Message: "sign in"}
		}
		return "welcome", nil
	})
	m.Mutation("change", func(tx *halcyon.Tx) (string, error) { return name(tx.Identity()), nil })
	m.Internal.Query("secret", func(tx *halcyon.Tx) (string, error) { return "secret", nil })
	m.Action("act", func(c *halcyon.Ctx) ([]string, error) {
		all := make([]string, 4)
		all[0] = name(c.Identity())
		if err := c.RunQuery("me", nil, &all[1]); err != nil {
			return nil, err
		}
		if err := c.RunMutation("change", nil, &all[2]); err != nil {
			return nil, err
		}
		return all, c.RunAction("inner", nil, &all[3])
	})
	m.Internal.Action("inner", func(c *halcyon.Ctx) (string, error) { return name(c.Identity()), nil })
	return m
}

func TestCallsHaveAnIdentity(t *testing.T) {
	app := openApp(t, halcyon.Options{}, identityModule(func(string, string) {}))
	for _, tt := range []struct {
		path string
		who  *halcyon.Identity
		want string
	}{
		{"counters:me", nil, `"nobody"`},
		{"counters:me", user(t, "ann"), `"ann"`},
		{"counters:nested", user(t, "ann"), `"nested ann"`},
		{"counters:change", user(t, "bob"), `"bob"`},
		{"counters:change", nil, `"nobody"`},
		{"counters:act", user(t, "cy"), `["cy","cy","cy","cy"]`},
		{"counters:act", nil, `["nobody","nobody","nobody","nobody"]`},
		{"counters:identity", nil, `null`},
		{"counters:identity", user(t, "ann"), `{"issuer":"https://issuer.test","name":"ann","subject":"ann","tokenIdentifier":"https://issuer.test|ann"}`},
	} {
		out, err := app.Call(t.Context(), halcyon.Request{Path: tt.path, Identity: tt.who})
		if err != nil || out.Failure != nil || toJSON(out.Value) != tt.want {
			t.Errorf("%s as %v: %s, %v, %v; want %s", tt.path, tt.who, toJSON(out.Value), out.Failure, err, tt.want)
		}
	}
}

// tally counts runs of functions by who they were for.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (l *tally) ran(function, who string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n == nil {
		l.n = map[string]int{}
	}
	l.n[strings.TrimSpace(function+" "+who)]++
}

func (l *tally) take() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.n
	l.n = nil
	return n
}

// A query that does not look at the identity runs once for all users. One that does runs once for each.
func TestQueriesAreSharedBetweenUsersUnlessTheyLook(t *testing.T) {
	var runs tally
	app := openApp(t, halcyon.Options{}, identityModule(runs.ran))
	users := []*halcyon.Identity{user(t, "ann"), user(t, "bob"), nil, user(t, "ann"), nil, user(t, "bob")}
	screens := make([]*screen, len(users))
	for i, u := range users {
		screens[i] = newScreen(t, app)
		screens[i].set.SetCaller(u, false)
		screens[i].set.Add(1, "counters:me", value.Value{}, nil)
		screens[i].set.Add(2, "counters:plain", value.Value{}, nil)
		want := map[uint32]string{1: `"nobody"`, 2: "0"}
		if u != nil {
			want[1] = `"` + u.Subject + `"`
		}
		if diff := cmp.Diff(want, screens[i].round(0)); diff != "" {
			t.Errorf("screen %d of %v (-want +got):\n%s", i, u, diff)
		}
	}
	if diff := cmp.Diff(map[string]int{"plain": 1, "me ann": 1, "me bob": 1, "me nobody": 1}, runs.take()); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
	// All at once, when nothing is known of the query.
	app = openApp(t, halcyon.Options{}, identityModule(runs.ran))
	for i, u := range users {
		screens[i] = newScreen(t, app)
		screens[i].set.SetCaller(u, false)
		screens[i].set.Add(1, "counters:me", value.Value{}, nil)
	}
	for i, u := range users {
		want := `"nobody"`
		if u != nil {
			want = `"` + u.Subject + `"`
		}
		if got := screens[i].round(0)[1]; got != want {
			t.Errorf("screen %d of %v: %s", i, u, got)
		}
	}
	if diff := cmp.Diff(map[string]int{"me ann": 1, "me bob": 1, "me nobody": 1}, runs.take()); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
}

// A token that is renewed makes no difference to a function, and so runs nothing again.
func TestRenewedTokenRunsNothingAgain(t *testing.T) {
	var runs tally
	app := openApp(t, halcyon.Options{}, identityModule(runs.ran))
	token := func(rest string) *halcyon.Identity {
		i, err := halcyon.IdentityFromClaims([]byte(`{"iss":"i","sub":"s"` + rest + `}`))
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	s := newScreen(t, app)
	s.set.SetCaller(token(`,"exp":1,"iat":1,"jti":"a","role":{"a":1,"b":2}`), false)
	s.set.Add(1, "counters:me", value.Value{}, nil)
	s.round(0)
	if again := s.set.SetCaller(token(`,"iat":2,"jti":"b","role":{"b":2, "a":1},"exp":2`), false); len(again) > 0 {
		t.Errorf("runs %v again for the same user", again)
	}
	if again := s.set.SetCaller(token(`,"iat":2,"role":{"b":2,"a":2}`), false); !cmp.Equal(again, []uint32{1}) {
		t.Errorf("runs %v again for a user of another role", again)
	}
	s.round(0)
	if n := runs.take()["me s"]; n != 2 {
		t.Errorf("%d runs, want 2", n)
	}
}

func TestSetCaller(t *testing.T) {
	app := openApp(t, halcyon.Options{}, identityModule(func(string, string) {}))
	s := newScreen(t, app)
	s.set.Add(1, "counters:me", value.Value{}, nil)
	s.set.Add(2, "counters:plain", value.Value{}, nil)
	s.set.Add(3, "counters:refuses", value.Value{}, nil)
	s.set.Add(4, "counters:secret", value.Value{}, nil)
	s.set.Add(5, "counters:nested", value.Value{}, nil)
	round := func(what string, want map[uint32]string) {
		t.Helper()
		if diff := cmp.Diff(want, s.round(0)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	refused := `failed "Could not find public function for 'counters:secret'." []`
	first := s.round(0)
	if !strings.Contains(first[3], "SignIn") || first[4] != refused {
		t.Errorf("first round: %v", first)
	}
	if again := s.set.SetCaller(user(t, "ann"), false); len(again) != 3 {
		t.Errorf("runs %v again, want 1, 3 and 5", again)
	}
	round("ann", map[uint32]string{1: `"ann"`, 3: `"welcome"`, 5: `"nested ann"`})
	s.set.SetCaller(user(t, "ann"), true)
	round("ann as administrator", map[uint32]string{4: `"secret"`})
	s.set.SetCaller(user(t, "bob"), false) // and before anything was shown
	s.set.SetCaller(nil, false)
	round("nobody", map[uint32]string{1: `"nobody"`, 3: first[3], 4: refused, 5: `"nested nobody"`})
}

// What a set shows is always what its queries would answer to its caller at one moment, whatever callers, queries and documents do.
func TestRoundsAreOfOneCallerAndOneMoment(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		app := openAppForModel(rt, t)
		names := []string{"ann", "bob", "nobody"}
		caller := func(name string) *halcyon.Identity {
			if name == "nobody" {
				return nil
			}
			return user(t, name)
		}
		type shown struct {
			s       *screen
			who     string
			queries map[uint32]string
			values  map[uint32]string
			seen    engine.Timestamp // of the last round
			must    map[uint32]bool  // are in the next round
		}
		take := func(rt *rapid.T, x *shown, r engine.Round) {
			for _, c := range r.Changes {
				x.values[c.ID] = string(c.Body)
				delete(x.must, c.ID)
			}
			if x.seen = r.At; len(x.must) > 0 {
				rt.Fatalf("a round of %s lacks %v", x.who, x.must)
			}
		}
		paths := []string{"counters:me", "counters:plain", "counters:sometimes", "counters:nested"}
		n := 0
		var at engine.Timestamp
		screens := make([]*shown, 3)
		for i := range screens {
			screens[i] = &shown{s: newScreen(t, app), who: "nobody", queries: map[uint32]string{}, values: map[uint32]string{}, must: map[uint32]bool{}}
		}
		answer := func(path, who string) string {
			switch path {
			case "counters:me":
				return `"` + who + `"`
			case "counters:nested":
				return `"nested ` + who + `"`
			case "counters:plain":
				return fmt.Sprint(n)
			}
			if n%2 == 0 {
				return fmt.Sprintf(`"%d"`, n)
			}
			return fmt.Sprintf(`"%d %s"`, n, who)
		}
		pick := func(rt *rapid.T) *shown { return screens[rapid.IntRange(0, len(screens)-1).Draw(rt, "screen")] }
		rt.Repeat(map[string]func(*rapid.T){
			"add": func(rt *rapid.T) {
				x := pick(rt)
				id := rapid.Uint32Range(0, 5).Draw(rt, "id")
				if _, taken := x.queries[id]; taken {
					rt.Skip()
				}
				x.queries[id] = rapid.SampledFrom(paths).Draw(rt, "path")
				x.s.set.Add(id, x.queries[id], value.Value{}, nil)
			},
			"remove": func(rt *rapid.T) {
				x := pick(rt)
				id := rapid.Uint32Range(0, 5).Draw(rt, "id")
				delete(x.queries, id)
				delete(x.values, id)
				x.s.set.Remove(id)
				delete(x.must, id)
			},
			"caller": func(rt *rapid.T) {
				x := pick(rt)
				x.who = rapid.SampledFrom(names).Draw(rt, "who")
				for _, id := range x.s.set.SetCaller(caller(x.who), false) {
					x.must[id] = true
				}
			},
			"write": func(rt *rapid.T) {
				out, err := app.Mutation(t.Context(), halcyon.Request{Path: "counters:add", Args: parse(t, `{"name":"a"}`)})
				if err != nil || out.Failure != nil {
					rt.Fatal(out.Failure, err)
				}
				n, at = n+1, out.At
			},
			"poll": func(rt *rapid.T) { // a round at any moment, which need not be the newest
				x := pick(rt)
				if r, ok := x.s.set.Poll(0); ok {
					take(rt, x, r)
				}
			},
			"look": func(rt *rapid.T) { // after what was written the set shows exactly what is true
				x := pick(rt)
				for x.seen < at || len(x.values) < len(x.queries) || len(x.must) > 0 {
					r, ok := x.s.set.Poll(at)
					if !ok {
						select {
						case <-x.s.wake:
						case <-time.After(time.Minute):
							rt.Fatalf("no round within a minute: %+v, at %d", x, at)
						}
						continue
					}
					take(rt, x, r)
				}
				want := map[uint32]string{}
				for id, path := range x.queries {
					want[id] = answer(path, x.who)
				}
				if diff := cmp.Diff(want, x.values); diff != "" {
					rt.Fatalf("%s sees (-want +got):\n%s", x.who, diff)
				}
			},
		})
		for _, x := range screens {
			x.s.set.Close()
		}
	})
}

func openAppForModel(rt *rapid.T, t *testing.T) *halcyon.App {
	app, err := halcyon.NewApp(identityModule(func(string, string) {}))
	if err != nil {
		rt.Fatal(err)
	}
	if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem(), FunctionTimeMax: time.Minute}}); err != nil {
		rt.Fatal(err)
	}
	rt.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	return app
}

// A query that begins to look leaves its watchers for their own. The round in which it does so is shown when all of it is there.
func TestRoundIsHeldUntilItIsOfItsCaller(t *testing.T) {
	var runs tally
	app := openApp(t, halcyon.Options{}, identityModule(runs.ran))
	names := []string{"ann", "bob", "cy"}
	var screens []*screen
	for _, name := range names {
		s := newScreen(t, app)
		s.set.SetCaller(user(t, name), false)
		s.set.Add(1, "counters:sometimes", value.Value{}, nil)
		s.set.Add(2, "counters:plain", value.Value{}, nil)
		if diff := cmp.Diff(map[uint32]string{1: `"0"`, 2: "0"}, s.round(0)); diff != "" {
			t.Errorf("%s at first (-want +got):\n%s", name, diff)
		}
		screens = append(screens, s)
	}
	for n := 1; n <= 4; n++ {
		out, err := app.Mutation(t.Context(), halcyon.Request{Path: "counters:add", Args: parse(t, `{"name":"a"}`)})
		if err != nil || out.Failure != nil {
			t.Fatal(out.Failure, err)
		}
		for i, s := range screens {
			want := map[uint32]string{1: fmt.Sprintf(`"%d"`, n), 2: fmt.Sprint(n)}
			if n%2 == 1 {
				want[1] = fmt.Sprintf(`"%d %s"`, n, names[i])
			}
			if diff := cmp.Diff(want, s.round(out.At)); diff != "" {
				t.Errorf("%s at %d (-want +got):\n%s", names[i], n, diff)
			}
		}
	}
	// The first runs once for all; once it has looked, each user has their own.
	want := map[string]int{"plain": 5, "sometimes": 1 + 3 + 3, "sometimes ann": 2, "sometimes bob": 2, "sometimes cy": 2}
	if diff := cmp.Diff(want, runs.take()); diff != "" {
		t.Errorf("runs (-want +got):\n%s", diff)
	}
}
