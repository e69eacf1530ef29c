package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// schema is what the simulated application has: every kind of index and
// aggregate.
var schema = engine.Schema{Tables: []engine.TableDef{
	{
		Name:       "accounts",
		Indexes:    []engine.IndexDef{{Name: "by_name", Fields: []string{"name"}}, {Name: "by_at", Fields: []string{"at", "stock"}}},
		Aggregates: []engine.AggregateDef{{Name: "balances", Sum: "balance"}, {Name: "stocks", OrderBy: []string{"looked"}, Sum: "stock"}},
	},
	{
		Name:       "items",
		Indexes:    []engine.IndexDef{{Name: "by_kind", Fields: []string{"kind", "n"}}, {Name: "by_tag", Fields: []string{"tag.name"}}},
		Aggregates: []engine.AggregateDef{{Name: "kinds", GroupBy: []string{"kind"}, OrderBy: []string{"n"}, Sum: "w", Ranked: true}, {Name: "all", Sum: "n"}},
	},
	{Name: "queue", Indexes: []engine.IndexDef{{Name: "by_state", Fields: []string{"state", "n"}}}},
	{Name: "claims", Indexes: []engine.IndexDef{{Name: "by_name", Fields: []string{"name"}}}},
	{Name: "visits", Indexes: []engine.IndexDef{{Name: "by_expiry", Fields: []string{"expiry"}}, {Name: "by_who", Fields: []string{"who"}}}},
	{Name: "journal", Indexes: []engine.IndexDef{{Name: "by_token", Fields: []string{"token"}}}},
}}

const (
	accounts     = 4
	balance      = 100 // of each account at first
	kinds        = 3
	perKind      = 4 // items that one kind may have
	claimedNames = 2
)

var (
	// errGone is what a function gets from its process when that is gone.
	errGone = errors.New("the process is gone")
	// errRefused is a function's own decision.
	errRefused = errors.New("refused")
)

// tx is a transaction of a simulated function, which stops before each of its
// steps.
type tx struct {
	*enginetest.Tx
	db    *engine.DB
	rng   *rand.Rand // of this function, the same in each of its executions
	token string     // of this call
	hot   value.ID   // the one document that everybody increments
	pause func() error
}

var whole = engine.Range{}

func eq(v value.Value) engine.Range { return engine.Range{Eq: []value.Value{v}} }

func object(kv ...any) value.Value {
	var out []value.Field
	for i := 0; i < len(kv); i += 2 {
		f := value.Field{Name: kv[i].(string)}
		switch v := kv[i+1].(type) {
		case string:
			f.Value = value.String(v)
		case float64:
			f.Value = value.Float64(v)
		case int:
			f.Value = value.Int64(int64(v))
		case value.Value:
			f.Value = v
		default:
			panic(fmt.Sprintf("field of type %T", v))
		}
		out = append(out, f)
	}
	return value.Object(out...)
}

// list reads up to n documents of a range.
func (x *tx) list(table, index string, r engine.Range, desc bool, n int) (out []engine.Document, err error) {
	if err := x.pause(); err != nil {
		return nil, err
	}
	for d, err := range x.Scan(x.db.Table(table), index, r, desc) {
		if err != nil {
			return nil, err
		}
		if out = append(out, d); len(out) == n {
			return out, nil
		}
		if x.rng.IntN(4) == 0 {
			if err := x.pause(); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (x *tx) first(table, index string, r engine.Range) (engine.Document, bool, error) {
	ds, err := x.list(table, index, r, false, 1)
	if err != nil || len(ds) == 0 {
		return engine.Document{}, false, err
	}
	return ds[0], true, nil
}

func (x *tx) insert(table string, fields value.Value) error {
	if err := x.pause(); err != nil {
		return err
	}
	_, err := x.Insert(x.db.Table(table), fields)
	return err
}

func (x *tx) patch(table string, d engine.Document, fields value.Value) error {
	if err := x.pause(); err != nil {
		return err
	}
	return x.Patch(x.db.Table(table), d.ID, fields)
}

func (x *tx) replace(table string, d engine.Document, fields value.Value) error {
	if err := x.pause(); err != nil {
		return err
	}
	return x.Replace(x.db.Table(table), d.ID, fields)
}

func (x *tx) remove(table string, d engine.Document) error {
	if err := x.pause(); err != nil {
		return err
	}
	return x.Delete(x.db.Table(table), d.ID)
}

func intOf(d engine.Document, field string) int {
	n, _ := d.Fields.Get(field).AsInt64()
	return int(n)
}

// work is a kind of mutation. What it returns is the call's result.
type work struct {
	name   string
	weight int
	writes bool // unless it fails
	run    func(*tx) (string, error)
}

var works = []work{
	{"transfer", 4, true, transfer},
	{"hot", 4, true, hot},
	{"tally", 4, true, tally},
	{"enqueue", 2, true, enqueue},
	{"dequeue", 3, true, dequeue},
	{"phantom", 4, true, phantom},
	{"claim", 3, true, claim},
	{"item", 5, true, changeItem},
	{"total", 3, true, storeTotal},
	{"heartbeat", 3, true, heartbeat},
	{"sweep", 1, true, sweepVisits},
	{"look", 2, false, look},
}

// transfer moves money between two accounts and refuses to overdraw one.
func transfer(x *tx) (string, error) {
	from := x.rng.IntN(accounts)
	to := (from + 1 + x.rng.IntN(accounts-1)) % accounts
	amount := 1 + x.rng.IntN(80)
	a, ok, err := x.first("accounts", "by_name", eq(value.String(accountName(from))))
	if err != nil || !ok {
		return "", errors.Join(err, missing(ok, "account"))
	}
	b, ok, err := x.first("accounts", "by_name", eq(value.String(accountName(to))))
	if err != nil || !ok {
		return "", errors.Join(err, missing(ok, "account"))
	}
	if intOf(a, "balance") < amount {
		return "", errRefused
	}
	err = errors.Join(
		x.patch("accounts", a, object("balance", intOf(a, "balance")-amount)),
		x.patch("accounts", b, object("balance", intOf(b, "balance")+amount)),
	)
	return fmt.Sprint(intOf(a, "balance") - amount), err
}

func missing(ok bool, what string) error {
	if ok {
		return nil
	}
	return fmt.Errorf("the %s is missing", what)
}

func accountName(i int) string { return fmt.Sprint("account ", i) }

// hot increments the one document that everybody increments.
func hot(x *tx) (string, error) {
	d, ok, err := x.first("accounts", "by_name", eq(value.String("hot")))
	if err != nil || !ok {
		return "", errors.Join(err, missing(ok, "hot document"))
	}
	n := intOf(d, "n") + 1
	return fmt.Sprint(n), x.patch("accounts", d, object("n", n))
}

// tally changes the hot document without reading it, mostly. It refuses to take
// more than there is.
func tally(x *tx) (string, error) {
	if err := x.pause(); err != nil {
		return "", err
	}
	t, n := x.db.Table("accounts"), x.rng.IntN(5)-2
	ops := [][]engine.Op{
		{engine.Add("stock", value.Int64(int64(n))).AtLeast(value.Int64(0))},
		{engine.Add("tallied", value.Float64(0.5)), engine.CommitTime("at")},
		{engine.SetInsert("seen", value.Int64(int64(n))), engine.Max("most", value.Int64(int64(n)))},
		{engine.Add("n", value.Int64(1))},
	}
	if err := x.Apply(t, x.hot, ops[x.rng.IntN(len(ops))]...); err != nil {
		return "", err
	}
	if x.rng.IntN(4) > 0 {
		return "", nil
	}
	if err := x.pause(); err != nil {
		return "", err
	}
	d, _, err := x.Get(t, x.hot)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(intOf(d, "stock")), x.Apply(t, x.hot, engine.CommitTime("looked"))
}

func enqueue(x *tx) (string, error) {
	return "", x.insert("queue", object("state", "ready", "n", x.rng.IntN(5), "by", x.token))
}

// dequeue takes the first job, so that no other call can.
func dequeue(x *tx) (string, error) {
	d, ok, err := x.first("queue", "by_state", eq(value.String("ready")))
	if err != nil {
		return "", err
	}
	if !ok {
		return "", enqueueDone(x)
	}
	by, _ := d.Fields.Get("by").AsString()
	if x.rng.IntN(3) == 0 {
		return by, x.remove("queue", d)
	}
	return by, x.replace("queue", d, object("state", "done", "n", intOf(d, "n"), "by", by, "taken", x.token))
}

// enqueueDone removes what is done, oldest first.
func enqueueDone(x *tx) error {
	ds, err := x.list("queue", "by_state", eq(value.String("done")), true, 3)
	if err != nil {
		return err
	}
	for _, d := range ds {
		if err := x.remove("queue", d); err != nil {
			return err
		}
	}
	return nil
}

func kindOf(rng *rand.Rand) value.Value {
	return value.String(string(rune('a' + rng.IntN(kinds))))
}

// phantom puts an item into a range that has room, and makes room in one that
// is full.
func phantom(x *tx) (string, error) {
	kind := kindOf(x.rng)
	ds, err := x.list("items", "by_kind", eq(kind), x.rng.IntN(2) == 0, perKind+1)
	if err != nil {
		return "", err
	}
	if len(ds) > perKind {
		return "", fmt.Errorf("there are %d items of one kind, there is room for %d", len(ds), perKind)
	}
	if len(ds) == perKind {
		return "full", x.remove("items", ds[x.rng.IntN(len(ds))])
	}
	return fmt.Sprint(len(ds)), x.insert("items", object("kind", kind, "n", float64(x.rng.IntN(6)), "w", x.rng.IntN(100)))
}

// claim takes a name that nobody has, or gives it up.
func claim(x *tx) (string, error) {
	name := value.String(fmt.Sprint("name ", x.rng.IntN(claimedNames)))
	ds, err := x.list("claims", "by_name", eq(name), false, 3)
	switch {
	case err != nil:
		return "", err
	case len(ds) > 1:
		return "", fmt.Errorf("%d calls have claimed one name", len(ds))
	case len(ds) == 1:
		owner, _ := ds[0].Fields.Get("owner").AsString()
		return "from " + owner, x.remove("claims", ds[0])
	}
	return "new", x.insert("claims", object("name", name, "owner", x.token))
}

// changeItem changes one item in a way that moves it in indexes and aggregates,
// or in none of them.
func changeItem(x *tx) (string, error) {
	ds, err := x.list("items", []string{"by_kind", "by_tag", engine.IndexByID, engine.IndexByCreationTime}[x.rng.IntN(4)], whole, x.rng.IntN(2) == 0, 1+x.rng.IntN(4))
	if err != nil {
		return "", err
	}
	if len(ds) == 0 {
		return "", errRefused
	}
	d := ds[len(ds)-1]
	switch x.rng.IntN(5) {
	case 0:
		return "", x.patch("items", d, object("n", float64(x.rng.IntN(6))))
	case 1:
		return "", x.patch("items", d, object("w", x.rng.IntN(100)))
	case 2:
		return "", x.patch("items", d, object("tag", object("name", x.rng.IntN(4))))
	case 3:
		return "", x.patch("items", d, object("note", x.token)) // in no index
	}
	// In its place, with the same kind: the numbers of a kind stay.
	return "", x.replace("items", d, object("kind", d.Fields.Get("kind"), "n", float64(x.rng.IntN(6)), "w", float64(x.rng.IntN(400))/4))
}

// storeTotal writes what aggregates say, so that what they say matters.
func storeTotal(x *tx) (string, error) {
	if err := x.pause(); err != nil {
		return "", err
	}
	items := x.db.Table("items")
	var said string
	switch x.rng.IntN(6) {
	case 0:
		n, err := x.Count(items, "kinds", eq(kindOf(x.rng)))
		if err != nil {
			return "", err
		}
		said = fmt.Sprint("count ", n)
	case 1:
		t, err := x.Total(items, "all", whole)
		if err != nil {
			return "", err
		}
		sum, err := t.Sum()
		if err != nil {
			return "", err
		}
		said = "total " + string(value.AppendJSON(nil, sum))
	case 2:
		top, err := x.Top(items, "kinds", 2)
		if err != nil {
			return "", err
		}
		said = fmt.Sprint("top of ", len(top))
	case 3:
		d, ok, err := x.DocumentAt(items, "kinds", whole, x.rng.IntN(4), x.rng.IntN(2) == 0)
		if err != nil {
			return "", err
		}
		said = fmt.Sprint("number ", ok, string(value.AppendJSON(nil, d.Fields.Get("n"))))
	case 4:
		n, err := x.CountGroups(items, "kinds")
		if err != nil {
			return "", err
		}
		said = fmt.Sprint("groups ", n)
	case 5:
		t, err := x.Total(x.db.Table("accounts"), "balances", whole)
		if err != nil {
			return "", err
		}
		sum, err := t.Sum()
		if err != nil {
			return "", err
		}
		if n, _ := sum.AsInt64(); n != accounts*balance {
			return "", fmt.Errorf("all balances are %d, they were %d", n, accounts*balance)
		}
		said = "balances"
	}
	d, ok, err := x.first("claims", "by_name", eq(value.String("total")))
	if err != nil {
		return "", err
	}
	if !ok {
		return said, x.insert("claims", object("name", "total", "owner", said))
	}
	return said, x.patch("claims", d, object("owner", said))
}

// heartbeat puts off when a visitor is gone. The time has a part that no
// timestamp can name.
func heartbeat(x *tx) (string, error) {
	if err := x.pause(); err != nil {
		return "", err
	}
	who := value.String(fmt.Sprint("visitor ", x.rng.IntN(3)))
	until := x.Now().Add(time.Duration(1+x.rng.IntN(40_000_000)) * 100)
	fields := object("who", who, "expiry", expiryOf(until))
	d, ok, err := x.first("visits", "by_who", eq(who))
	if err != nil {
		return "", err
	}
	if ok {
		return "", x.patch("visits", d, fields)
	}
	return "", x.insert("visits", fields)
}

func expiryOf(t time.Time) value.Value { return value.Int64(t.UnixNano()) }

// sweepVisits removes the visitors that are gone.
func sweepVisits(x *tx) (string, error) {
	if err := x.pause(); err != nil {
		return "", err
	}
	ds, err := x.list("visits", "by_expiry", engine.Range{Upper: &engine.Bound{Value: expiryOf(x.Now()), Inclusive: true}}, false, 10)
	if err != nil {
		return "", err
	}
	for _, d := range ds {
		if err := x.remove("visits", d); err != nil {
			return "", err
		}
	}
	return fmt.Sprint(len(ds)), nil
}

// look only reads.
func look(x *tx) (string, error) { return "", watched[x.rng.IntN(len(watched))].run(x) }

// watch is a kind of query.
type watch struct {
	name string
	run  func(*tx) error
}

var watched = []watch{
	{"hot", func(x *tx) error {
		_, _, err := x.first("accounts", "by_name", eq(value.String("hot")))
		return err
	}},
	{"accounts", func(x *tx) error {
		ds, err := x.list("accounts", "by_name", whole, false, 100)
		if err != nil {
			return err
		}
		sum := 0
		for _, d := range ds {
			sum += intOf(d, "balance")
		}
		if len(ds) > 0 && sum != accounts*balance {
			return fmt.Errorf("all balances are %d, they were %d", sum, accounts*balance)
		}
		return nil
	}},
	{"kinds", func(x *tx) error {
		if err := x.pause(); err != nil {
			return err
		}
		if _, err := x.Groups(x.db.Table("items"), "kinds"); err != nil {
			return err
		}
		if err := x.pause(); err != nil {
			return err
		}
		_, err := x.Top(x.db.Table("items"), "kinds", 2)
		return err
	}},
	{"totals", func(x *tx) error {
		if err := x.pause(); err != nil {
			return err
		}
		if _, err := x.Total(x.db.Table("items"), "kinds", eq(value.String("a"))); err != nil {
			return err
		}
		if err := x.pause(); err != nil {
			return err
		}
		_, err := x.Total(x.db.Table("accounts"), "balances", whole)
		return err
	}},
	{"queue", func(x *tx) error {
		_, err := x.list("queue", "by_state", eq(value.String("ready")), false, 3)
		return err
	}},
	{"claims", func(x *tx) error {
		_, err := x.list("claims", "by_name", whole, true, 4)
		return err
	}},
	{"items", func(x *tx) error {
		_, err := x.list("items", "by_tag", engine.Range{Lower: &engine.Bound{Value: value.Int64(1)}}, true, 3)
		return err
	}},
	{"visits", func(x *tx) error {
		// Who is there, which time alone changes.
		ds, err := x.list("visits", "by_expiry", engine.Range{Lower: &engine.Bound{Value: expiryOf(x.Now())}}, false, 10)
		if err != nil {
			return err
		}
		for _, d := range ds {
			x.WakeAt(time.Unix(0, int64(intOf(d, "expiry"))))
		}
		return nil
	}},
}
