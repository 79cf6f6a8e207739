"""The gate: a policy applied to signed evidence gives a signed decision. Free of torch.

verdict.py   what a rule is asked (`Case`) and what it answers (`Finding`)
rules/       the rules, one file each
decide.py    rules to decision: promote, reject or inconclusive
step.py      the pipeline step, from envelope to envelope
summary.py   a decision in Markdown and as lines for a terminal
power.py     how likely a model passes, from exact chances
page.py      a decision as an HTML page, with its chain of custody and the attempts before it
withhold.py  what happens to a model that is not promoted
"""

HELPERS: tuple[str, ...] = ("decide", "explain", "page", "power", "rules", "step", "summary", "verdict", "withhold")
