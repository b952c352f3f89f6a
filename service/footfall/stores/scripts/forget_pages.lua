-- Postgres has other views of pages than those that are remembered: an import or a move changed them.
-- ARGV: installation. Answers: {OK}, or {NOTREADY, installation found}.

local refused = refusal(ARGV[1])
if refused then return refused end
forget_page_totals()
return {'OK'}
