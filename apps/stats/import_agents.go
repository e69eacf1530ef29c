package stats

import "github.com/halcyon-db/halcyon/apps/stats/internal/agent"

// agentsMax is how many different agents are remembered. When there are more, all
// are forgotten: a log has few that come often.
const agentsMax = 8192

// agents remembers what the agents of a log are. To find it out takes longer than
// all the rest of reading a line. The zero value is ready to use.
type agents struct{ known map[string]knownAgent }

// knownAgent is what an agent is: a visitor's, or a robot of a kind and a name.
type knownAgent struct {
	agent.Agent
	robot string
}

func (a *agents) look(text string) knownAgent {
	if known, ok := a.known[text]; ok {
		return known
	}
	k := knownAgent{Agent: agent.Parse(text)}
	if kind, name, ok := agent.Robot(text); ok {
		k.robot = string(kind) + " " + name
	}
	if a.known == nil || len(a.known) >= agentsMax {
		a.known = make(map[string]knownAgent)
	}
	a.known[string([]byte(text))] = k // not a part of the line
	return k
}
