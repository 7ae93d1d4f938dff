package ledger

import (
	"fmt"
	"hash"
	"maps"
	"slices"
	"unicode"
)

// The values that the kind and the modes of a rule may have; the first of each
// is the default.
var (
	ruleKinds      = []string{"TRANSFORM", "CONDITION"}
	domainModes    = []string{"WRITEREAD", "WRITE", "READ"}
	migrationModes = []string{"UPDOWN", "UPGRADE", "DOWNGRADE"}
)

func (r *RuleSet) hash(sum hash.Hash) {
	if r == nil {
		return
	}
	_, _ = sum.Write([]byte{1})
	for _, list := range r.lists() {
		for _, rule := range list {
			write(sum, rule.Name, rule.Doc, rule.Kind, rule.Mode, rule.Type)
			write(sum, rule.Tags...)
			writeMap(sum, rule.Params)
			write(sum, rule.Expr, rule.OnSuccess, rule.OnFailure)
			if rule.Disabled {
				_, _ = sum.Write([]byte{1})
			}
		}
	}
	write(sum, r.EnableAt)
}

func (r *RuleSet) lists() [][]Rule {
	return [][]Rule{r.MigrationRules, r.DomainRules, r.EncodingRules}
}

func (r *RuleSet) equal(o *RuleSet) bool {
	if r == nil || o == nil {
		return r == o
	}
	return r.EnableAt == o.EnableAt && slices.EqualFunc(r.lists(), o.lists(),
		func(a, b []Rule) bool { return slices.EqualFunc(a, b, Rule.equal) })
}

func (r Rule) equal(o Rule) bool {
	same := slices.Equal(r.Tags, o.Tags) && maps.Equal(r.Params, o.Params)
	return same && r.Name == o.Name && r.Doc == o.Doc && r.Kind == o.Kind && r.Mode == o.Mode &&
		r.Type == o.Type && r.Expr == o.Expr && r.OnSuccess == o.OnSuccess &&
		r.OnFailure == o.OnFailure && r.Disabled == o.Disabled
}

// normalized returns the rule set with defaults filled in and tags sorted.
func (r *RuleSet) normalized() *RuleSet {
	if r == nil {
		return nil
	}
	fill := func(rules []Rule) []Rule {
		rules = slices.Clone(rules)
		for i := range rules {
			if rules[i].Kind == "" {
				rules[i].Kind = ruleKinds[0]
			}
			if rules[i].Mode == "" {
				rules[i].Mode = domainModes[0]
			}
			rules[i].Tags = set(rules[i].Tags)
		}
		return rules
	}
	return &RuleSet{fill(r.MigrationRules), fill(r.DomainRules), fill(r.EncodingRules), r.EnableAt}
}

// check refuses rules that no client could apply.
func (r *RuleSet) check() error {
	if r == nil {
		return nil
	}
	if err := checkRules(r.MigrationRules, migrationModes,
		"Migration rules can only be UPGRADE, DOWNGRADE, UPDOWN"); err != nil {
		return err
	}
	for _, rules := range [][]Rule{r.DomainRules, r.EncodingRules} {
		if err := checkRules(rules, domainModes,
			"Domain rules can only be WRITE, READ, WRITEREAD"); err != nil {
			return err
		}
	}
	return nil
}

func checkRules(rules []Rule, modes []string, wrongMode string) error {
	seen := make(map[string]bool, len(rules))
	for _, rule := range rules {
		switch {
		case rule.Name == "":
			return InvalidRuleSet.With("Missing rule name")
		case !ruleName(rule.Name):
			return InvalidRuleSet.With("Illegal character in rule name: " + visible(rule.Name))
		case seen[rule.Name]:
			return InvalidRuleSet.With(
				fmt.Sprintf("Found rule with duplicate name '%s'", rule.Name))
		case rule.Type == "":
			return InvalidRuleSet.With("Missing rule type")
		case !slices.Contains(modes, rule.Mode):
			return InvalidRuleSet.With(wrongMode)
		case !slices.Contains(ruleKinds, rule.Kind):
			return InvalidRuleSet.With("Rule kinds can only be TRANSFORM, CONDITION")
		}
		seen[rule.Name] = true
	}
	return nil
}

func ruleName(name string) bool {
	for i, c := range name {
		digit := i > 0 && (unicode.IsDigit(c) || c == '-')
		if !unicode.IsLetter(c) && c != '_' && !digit {
			return false
		}
	}
	return true
}

// merge returns r with the rules of newer, which replace those of the same
// name; either may be nil.
func (r *RuleSet) merge(newer *RuleSet) *RuleSet {
	if r == nil {
		return newer
	}
	if newer == nil {
		return r
	}
	join := func(old, add []Rule) []Rule {
		kept := slices.DeleteFunc(slices.Clone(old), func(o Rule) bool {
			return slices.ContainsFunc(add, func(a Rule) bool { return a.Name == o.Name })
		})
		return append(kept, add...)
	}
	at := newer.EnableAt
	if at == "" {
		at = r.EnableAt
	}
	return &RuleSet{
		join(r.MigrationRules, newer.MigrationRules),
		join(r.DomainRules, newer.DomainRules), join(r.EncodingRules, newer.EncodingRules), at,
	}
}

// uses tells whether a rule of the set is of a type.
func (r *RuleSet) uses(kind string) bool {
	if r == nil {
		return false
	}
	return slices.ContainsFunc(r.lists(), func(rules []Rule) bool {
		return slices.ContainsFunc(rules, func(rule Rule) bool { return rule.Type == kind })
	})
}
