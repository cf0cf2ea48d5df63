/*-------------------------------------------------------------------------
 *
 * parse.c
 *	  Raw parse trees of commands, some of which are kept.
 *
 * To parse a short command takes as long as a sixth of all that is done for it.  So
 * the trees of those that come again and again are kept, from one task, or call, to
 * the next.
 *
 * A raw parse tree depends on nothing but the text and on few settings: no
 * catalog, no search path, no role.  What is left:
 *
 * - standard_conforming_strings, and for a backslash in a string backslash_quote,
 *	 client_encoding and escape_string_warning.  Nothing is kept, nor taken, while the
 *	 first is off, and no text that has a backslash.
 *
 * - What is said on the way: that an identifier is truncated, and that GLOBAL is
 *	 deprecated.  Who sends the command again is to hear it again, so no text is
 *	 kept that could have such an identifier or that word.
 *
 * - Settings that have core log what it parses.  With these it does.
 *
 * Errors are not kept: where one is raised there is no tree.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "common/hashfn.h"
#include "nodes/parsenodes.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

#include "compat.h"
#include "parse.h"

/* How many are kept, and of which size at most: some MB in a process. */
#define NKEPT			32
#define MAX_COMMAND		2048
#define MAX_BYTES		(64 * 1024)

/* Of how many it is known that they have come once. */
#define NSEEN			256

typedef struct Kept
{
	uint32		hash;
	MemoryContext context;		/* of the rest; NULL: nothing is kept here */
	char	   *command;
	List	   *statements;
} Kept;

/* By their hashes: one that comes takes the place of another. */
static Kept kept[NKEPT];
static uint32 seen[NSEEN];

/* Part of an identifier that needs no quotes, or of a number? */
static inline bool
is_word(unsigned char c)
{
	return isalnum(c) || c == '_' || c == '$' || IS_HIGHBIT_SET(c);
}

/*
 * Does nothing but standard_conforming_strings have a say in how it is parsed, and is
 * nothing said?  May be wrong in saying no.
 */
static bool
is_plain(const char *command)
{
	const char *quote = NULL;
	int			word = 0;

	for (const char *c = command; *c != '\0'; c++)
	{
		if (*c == '\\')
			return false;
		word = is_word(*c) ? word + 1 : 0;
		if (word >= NAMEDATALEN)
			return false;
		if (word == 1 && pg_strncasecmp(c, "global", 6) == 0)
			return false;
		if (*c == '"')
		{
			/* it may begin an identifier, end one, or be part of one */
			if (quote != NULL && (c - quote == 1 || c - quote > NAMEDATALEN))
				return false;
			quote = c;
		}
	}
	return true;
}

/* Of others the time to parse them is not what counts. */
static bool
is_worth_it(List *statements)
{
	ListCell   *lc;

	foreach(lc, statements)
	{
		switch (nodeTag(lfirst_node(RawStmt, lc)->stmt))
		{
			case T_SelectStmt:
			case T_InsertStmt:
			case T_UpdateStmt:
			case T_DeleteStmt:
			case T_MergeStmt:
			case T_CallStmt:
			case T_VariableSetStmt:
				break;
			default:
				return false;
		}
	}
	return statements != NIL;
}

/* Keep it in that place, unless it is too large. */
static void
keep(Kept *place, uint32 hash, const char *command, List *statements)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "supervisor command",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext oldcontext = MemoryContextSwitchTo(context);
	Kept		new;

	new.hash = hash;
	new.context = context;
	new.command = pstrdup(command);
	new.statements = copyObject(statements);
	MemoryContextSwitchTo(oldcontext);
	if (MemoryContextMemAllocated(context, true) > MAX_BYTES)
	{
		MemoryContextDelete(context);
		return;
	}

	/* Nothing can fail from here on. */
	if (place->context != NULL)
		MemoryContextDelete(place->context);
	MemoryContextSetParent(context, TopMemoryContext);
	*place = new;
}

/* One is kept when it comes the second time, as most come but once. */
List *
sup_parse(const char *command, Size len)
{
	uint32		hash;
	Kept	   *place;
	List	   *statements;

	if (len > MAX_COMMAND || !sup_standard_strings() || sup_parsing_is_logged())
		return pg_parse_query(command);

	hash = hash_bytes((const unsigned char *) command, len);
	place = &kept[hash % NKEPT];
	if (place->context != NULL && place->hash == hash && strcmp(place->command, command) == 0)
		return copyObject(place->statements);

	statements = pg_parse_query(command);
	if (seen[hash % NSEEN] != hash)
		seen[hash % NSEEN] = hash;
	else if (is_worth_it(statements) && is_plain(command))
		keep(place, hash, command, statements);
	return statements;
}
