/*-------------------------------------------------------------------------
 *
 * exec.c
 *	  A worker runs one command.
 *
 * What core's tcop/postgres.c does for a client is done here for a task: a
 * portal per statement, implicit transaction blocks, statement_timeout and
 * the logging of statements, durations and resource usage.  It calls the same
 * functions in the same order.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/printtup.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "libpq/libpq.h"
#include "mb/pg_wchar.h"
#include "mb/stringinfo_mb.h"
#include "miscadmin.h"
#include "nodes/params.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "pgstat.h"
#include "replication/slot.h"
#include "storage/lmgr.h"
#include "tcop/pquery.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "columns.h"
#include "compat.h"
#include "exec.h"
#include "parse.h"
#include "rights.h"
#include "settings.h"
#include "stream.h"

/*
 * Messages to the client
 *
 * Errors and notices come in the form of the protocol, with all their
 * fields.  Everything else that core would say to a client has nobody to
 * hear it.
 *
 * comm_putmessage() is called in the middle of ereport(), which may be
 * wherever interrupts are taken, also while this worker sends something
 * else: see sup_out_message().  It takes none itself, and raises nothing.
 */

/*
 * The error that is being sent.  Set where a message is emitted, but read by
 * sup_send_error() alone, which emits the last one, with interrupts held.
 */
static StringInfoData error_message;

/* There is no connection to be reset. */
static void
comm_nothing(void)
{
}

/* 0 is success: nothing is kept back for a client. */
static int
comm_flush(void)
{
	return 0;
}

/* As comm_flush(): never. */
static bool
comm_is_send_pending(void)
{
	return false;
}

/*
 * A notice is sent now, an error is kept for sup_send_error(), and all else
 * is dropped.  Returns 0, which is success: whoever called could do nothing
 * about it.
 */
static int
comm_putmessage(char msgtype, const char *s, size_t len)
{
	int32		encoding = pg_get_client_encoding();
	MemoryContext oldcontext;
	StringInfoData buf;

	if (!sup_in_task() || (msgtype != SUP_MSG_ERROR && msgtype != SUP_MSG_NOTICE))
		return 0;

	/* Nothing can be allocated here, nor waited for; the log has it. */
	if (CritSectionCount > 0)
		return 0;

	oldcontext = MemoryContextSwitchTo(MessageContext);
	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, (char *) &encoding, sizeof(encoding));
	appendBinaryStringInfo(&buf, s, len);
	MemoryContextSwitchTo(oldcontext);

	if (msgtype == SUP_MSG_NOTICE)
	{
		(void) sup_out_message(SUP_MSG_NOTICE, buf.data, buf.len, true);
		sup_out_push();
		pfree(buf.data);
	}
	else
		error_message = buf;	/* sup_send_error() goes on with it */
	return 0;
}

/* Core calls it in walsenders only, and none is here. */
static void
comm_putmessage_noblock(char msgtype, const char *s, size_t len)
{
	(void) comm_putmessage(msgtype, s, len);
}

static const PQcommMethods comm_methods = {
	.comm_reset = comm_nothing,
	.flush = comm_flush,
	.flush_if_writable = comm_flush,
	.is_send_pending = comm_is_send_pending,
	.putmessage = comm_putmessage,
	.putmessage_noblock = comm_putmessage_noblock
};

/* Once in a process.  The newest protocol has all the fields of a message. */
void
sup_redirect_messages(void)
{
	PqCommMethods = &comm_methods;
	whereToSendOutput = DestRemote;
	FrontendProtocol = PG_PROTOCOL_LATEST;
}

/*
 * EmitErrorReport() logs it, and hands it to comm_putmessage().  Called
 * where an error is being handled, it raises none, and waits only for a
 * reader.
 */
void
sup_send_error(void)
{
	error_message.data = NULL;

	/* A task may have SET another, into which the message can't be converted. */
	SetClientEncoding(GetDatabaseEncoding());
	EmitErrorReport();

	/* Rows that nobody will see make room for it. */
	sup_out_drop();
	if (error_message.data != NULL)
		(void) sup_out_message(SUP_MSG_ERROR, error_message.data, error_message.len, true);
}

/*
 * Rows
 */

typedef struct Receiver
{
	DestReceiver pub;
	TupleDesc	desc;
	MemoryContext row_context;
	bool		has_varlena;
	Datum	   *values;
} Receiver;

/* Is this a type whose values only their producer can tell apart? */
static bool
is_transient(Oid type)
{
	Oid			element;

	type = sup_base_type(type);
	element = get_element_type(type);
	return type == RECORDOID || type == RECORDARRAYOID ||
		(OidIsValid(element) && is_transient(element));
}

/* Raise an error if a reader could not make anything of these rows. */
static void
check_columns(TupleDesc desc, const SupInput *input)
{
	StringInfoData columns;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (is_transient(att->atttypid))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("column \"%s\" of the result has type %s", NameStr(att->attname),
							format_type_be(att->atttypid)),
					 errdetail("The type of such a value is known only where it was made."),
					 errhint("Cast it to a named composite type, or to text.")));
	}
	if (input->ncolumns < 0)
		return;

	initStringInfo(&columns);
	sup_append_columns(&columns, desc);
	sup_check_columns(columns.data, desc->natts, sup_input_columns(input), input->ncolumns);
	pfree(columns.data);
}

/* rStartup: tell what the columns are, and how their types are defined. */
static void
receiver_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	Receiver   *r = (Receiver *) self;
	StringInfoData buf;

	r->desc = desc;
	r->values = palloc(sizeof(Datum) * Max(desc->natts, 1));
	r->row_context = AllocSetContextCreate(CurrentMemoryContext, "supervisor row",
										   ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < desc->natts; i++)
		r->has_varlena |= TupleDescAttr(desc, i)->attlen == -1;
	initStringInfo(&buf);
	sup_append_columns(&buf, desc);
	(void) sup_out_message(SUP_MSG_COLUMNS, buf.data, buf.len, false);
	resetStringInfo(&buf);
	sup_append_definitions(&buf, desc);
	if (buf.len > 0)
		(void) sup_out_message(SUP_MSG_TYPES, buf.data, buf.len, false);
	pfree(buf.data);
}

/*
 * Send a row that lies there as a tuple, without taking it apart.  False: it
 * must be, since it points out of itself, or is older than a column of its
 * table.
 */
static bool
send_stored(Receiver *r, TupleTableSlot *slot)
{
	MinimalTuple tuple;
	Size		len;

	if (TTS_IS_BUFFERTUPLE(slot) || TTS_IS_HEAPTUPLE(slot))
	{
		HeapTuple	heap_tuple = ExecFetchSlotHeapTuple(slot, false, NULL);

		tuple = (MinimalTuple) ((char *) heap_tuple->t_data + MINIMAL_TUPLE_OFFSET);
		len = heap_tuple->t_len - MINIMAL_TUPLE_OFFSET;
	}
	else if (TTS_IS_MINIMALTUPLE(slot))
	{
		tuple = ExecFetchSlotMinimalTuple(slot, NULL);
		len = tuple->t_len;
	}
	else
		return false;

	if ((tuple->t_infomask & HEAP_HASEXTERNAL) != 0 ||
		HeapTupleHeaderGetNatts(tuple) != r->desc->natts)
		return false;
	return sup_out_tuple(tuple, len);
}

/*
 * receiveSlot: a row, with what it points to in toast tables or in memory.
 * Always true, which is to go on.
 */
static bool
receiver_receive(TupleTableSlot *slot, DestReceiver *self)
{
	Receiver   *r = (Receiver *) self;
	Datum	   *values = slot->tts_values;
	MemoryContext oldcontext;

	if (send_stored(r, slot))
		return true;

	slot_getallattrs(slot);
	if (!r->has_varlena)
	{
		sup_out_row(r->desc, values, slot->tts_isnull);
		return true;
	}

	/* The reader can't follow a pointer into our toast tables or our memory. */
	oldcontext = MemoryContextSwitchTo(r->row_context);
	for (int i = 0; i < r->desc->natts; i++)
	{
		Datum		value = slot->tts_values[i];

		if (!slot->tts_isnull[i] && TupleDescAttr(r->desc, i)->attlen == -1 &&
			VARATT_IS_EXTERNAL(DatumGetPointer(value)))
		{
			if (values == slot->tts_values)
			{
				values = r->values;
				memcpy(values, slot->tts_values, sizeof(Datum) * r->desc->natts);
			}
			values[i] = PointerGetDatum(PG_DETOAST_DATUM(value));
		}
	}
	sup_out_row(r->desc, values, slot->tts_isnull);
	MemoryContextSwitchTo(oldcontext);
	if (values != slot->tts_values)
		MemoryContextReset(r->row_context);
	return true;
}

/* rShutdown: not called after an error, where the memory goes by itself. */
static void
receiver_shutdown(DestReceiver *self)
{
	Receiver   *r = (Receiver *) self;

	if (r->row_context)
		MemoryContextDelete(r->row_context);
	r->row_context = NULL;
}

/* rDestroy: the receiver is a variable of run_statement(). */
static void
receiver_destroy(DestReceiver *self)
{
}

/*
 * Statements
 */

/*
 * Is there a transaction?  Set by sup_exec(), which never calls itself; what
 * an error leaves here counts no more when it is called again.
 */
static bool xact_started = false;

/* Set likewise: who has the last word in its one transaction, and gets rows.  NULL: nobody. */
static const SupBlock *in_block = NULL;
static DestReceiver *rows_to = NULL;

/* As core's function of that name; a statement_timeout that runs goes on. */
static void
start_xact_command(void)
{
	if (!xact_started)
	{
		StartTransactionCommand();
		xact_started = true;
	}
	if (StatementTimeout > 0)
	{
		if (!get_timeout_active(STATEMENT_TIMEOUT))
			enable_timeout_after(STATEMENT_TIMEOUT, StatementTimeout);
	}
	else if (get_timeout_active(STATEMENT_TIMEOUT))
		disable_timeout(STATEMENT_TIMEOUT, false);
}

/* As core's function of that name: commit. */
static void
finish_xact_command(void)
{
	if (get_timeout_active(STATEMENT_TIMEOUT))
		disable_timeout(STATEMENT_TIMEOUT, false);
	if (xact_started)
	{
		CommitTransactionCommand();
		xact_started = false;
	}
}

/* As far as its text tells: may this statement return rows? */
static bool
may_return_rows(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_SelectStmt:
			{
				SelectStmt *select = (SelectStmt *) stmt;

				while (select->op != SETOP_NONE)
					select = select->larg;
				return select->intoClause == NULL;
			}
		case T_InsertStmt:
			return SUP_HAS_RETURNING(InsertStmt, stmt);
		case T_UpdateStmt:
			return SUP_HAS_RETURNING(UpdateStmt, stmt);
		case T_DeleteStmt:
			return SUP_HAS_RETURNING(DeleteStmt, stmt);
		case T_FetchStmt:
			return !((FetchStmt *) stmt)->ismove;
		case T_ExplainStmt:
		case T_VariableShowStmt:
		case T_ExecuteStmt:
		case T_CallStmt:
			return true;
		default:
			return sup_merge_returns_rows(stmt);
	}
}

/*
 * Does it refer to a prepared statement or cursor that does not exist?  To
 * run it says so.
 */
static bool
refers_to_nothing(Node *stmt)
{
	if (IsA(stmt, ExecuteStmt))
		return FetchPreparedStatement(((ExecuteStmt *) stmt)->name, false) == NULL;
	return IsA(stmt, FetchStmt) && GetPortalByName(((FetchStmt *) stmt)->portalname) == NULL;
}

/* Refuse what would talk to a client beside rows, errors and notices. */
static void
check_statement(Node *stmt)
{
	if (IsA(stmt, CopyStmt) && ((CopyStmt *) stmt)->filename == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot COPY from or to the client in a task"),
				 errhint("Use a file or a program on the server, or a query.")));
	if (in_block != NULL && IsA(stmt, TransactionStmt) && !sup_is_savepoint((TransactionStmt *) stmt))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
				 errmsg("cannot end the transaction of an atomic job"),
				 errdetail("It commits together with the note that the job is done.")));
}

/* As core's check_log_statement(). */
static bool
should_log(List *parsetrees)
{
	ListCell   *lc;

	if (log_statement == LOGSTMT_NONE)
		return false;
	if (log_statement == LOGSTMT_ALL)
		return true;
	foreach(lc, parsetrees)
	{
		if (GetCommandLogLevel((Node *) lfirst(lc)) <= log_statement)
			return true;
	}
	return false;
}

/*
 * Our own limit on how long a command may run
 */

/* Set by the signal's handler; cleared before the time is running. */
static volatile sig_atomic_t timed_out = false;

/* In a signal handler: cancel the command, and remember that it was us. */
static void
timeout_handler(void)
{
	timed_out = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

/* Core says "user request" of every cancel that is not its own timeout. */
static void
cancel_error_callback(void *arg)
{
	const SupLimits *limits = arg;

	if (geterrcode() != ERRCODE_QUERY_CANCELED)
		return;
	if (timed_out)
		errmsg_internal("%s", limits->timeout_message);
	else if (limits->task != NULL && limits->task->cancel > SUP_CANCEL_REQUEST)
		errmsg_internal("%s", sup_cancel_messages[limits->task->cancel]);
}

/*
 * Input functions for parameters, as exec_bind_message() would apply them.
 */
static ParamListInfo
convert_params(int nparams, const char *data, int ntypes, Oid *types)
{
	ParamListInfo params;
	char	  **texts;

	if (ntypes != nparams)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("wrong number of parameters"),
				 errdetail("Expected %d parameters but got %d.", ntypes, nparams)));
	params = makeParamList(nparams);
	texts = palloc(sizeof(char *) * Max(nparams, 1));
	for (int i = 0; i < nparams; i++)
	{
		int32		len;
		char	   *value = NULL;
		Oid			input;
		Oid			ioparam;

		memcpy(&len, data, sizeof(len));
		data += sizeof(len);
		if (len >= 0)
		{
			value = (char *) data;
			data += len + 1;
		}
		texts[i] = value;
		if (types[i] == InvalidOid || types[i] == UNKNOWNOID)
			ereport(ERROR,
					(errcode(ERRCODE_INDETERMINATE_DATATYPE),
					 errmsg("could not determine data type of parameter $%d", i + 1)));
		getTypeInputInfo(types[i], &input, &ioparam);
		params->params[i].value = OidInputFunctionCall(input, value, ioparam, -1);
		params->params[i].isnull = value == NULL;
		params->params[i].pflags = PARAM_FLAG_CONST;
		params->params[i].ptype = types[i];
	}
	if (log_parameter_max_length_on_error != 0)
		params->paramValuesStr = BuildParamLogString(params, texts, log_parameter_max_length_on_error);
	return params;
}

/*
 * What a statement's line in the log says of its parameters, as core's
 * function of that name.
 */
static int
errdetail_params(const SupInput *input)
{
	const char *p = sup_input_params(input);
	StringInfoData buf;

	if (input->nparams <= 0 || log_parameter_max_length == 0)
		return 0;
	initStringInfo(&buf);
	for (int i = 0; i < input->nparams; i++)
	{
		int32		len;

		memcpy(&len, p, sizeof(len));
		p += sizeof(len);
		appendStringInfo(&buf, "%s$%d = ", i > 0 ? ", " : "", i + 1);
		if (len >= 0)
			appendStringInfoStringQuoted(&buf, p, log_parameter_max_length);
		else
			appendStringInfoString(&buf, "NULL");
		p += len >= 0 ? len + 1 : 0;
	}
	return errdetail(SUP_PARAMETERS, buf.data);
}

/*
 * The same of one without parameters: what it executes, as core's function
 * of that name says.
 */
static int
errdetail_execute(List *parsetrees)
{
	ListCell   *lc;

	foreach(lc, parsetrees)
	{
		Node	   *stmt = lfirst_node(RawStmt, lc)->stmt;
		PreparedStatement *prepared = IsA(stmt, ExecuteStmt) ?
			FetchPreparedStatement(((ExecuteStmt *) stmt)->name, false) : NULL;

		if (prepared != NULL)
			return errdetail("prepare: %s", prepared->plansource->query_string);
	}
	return 0;
}

/*
 * The parameters or, if there are none, the prepared statement that it
 * executes.
 */
static int
errdetail_statement(const SupInput *input, List *parsetrees)
{
	return input->nparams > 0 ? errdetail_params(input) : errdetail_execute(parsetrees);
}

/*
 * The statements of a command, in MessageContext, which are logged if they
 * shall be.  *row_statement is the one whose rows are wanted, the last that
 * may return any; NULL: none is.
 */
static List *
parse_command(const SupInput *input, bool wants_rows, RawStmt **row_statement, bool *was_logged)
{
	const char *command = (const char *) (input + 1);
	List	   *parsetrees;
	ListCell   *lc;
	MemoryContext oldcontext = MemoryContextSwitchTo(MessageContext);

	*row_statement = NULL;
	*was_logged = false;
	parsetrees = sup_parse(command, input->command_len);
	if (parsetrees == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("command is empty")));

	if (should_log(parsetrees))
	{
		ereport(LOG,
				(errmsg("statement: %s", command), errhidestmt(true),
				 errdetail_statement(input, parsetrees)));
		*was_logged = true;
	}

	foreach(lc, parsetrees)
	{
		RawStmt    *stmt = lfirst_node(RawStmt, lc);

		check_statement(stmt->stmt);
		if (wants_rows && may_return_rows(stmt->stmt))
			*row_statement = stmt;
	}
	if (input->ncolumns >= 0 && *row_statement == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("command returns no rows"),
				 errhint("Use supervisor.execute() for it.")));
	if (input->nparams >= 0 && list_length(parsetrees) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("cannot run more than one statement with parameters")));
	MemoryContextSwitchTo(oldcontext);
	return parsetrees;
}

/* Raise 25P02, as exec_simple_query() would. */
static void
check_not_aborted(Node *stmt)
{
	if (IsAbortedTransactionBlockState() &&
		!(IsA(stmt, TransactionStmt) &&
		  (((TransactionStmt *) stmt)->kind == TRANS_STMT_COMMIT ||
		   ((TransactionStmt *) stmt)->kind == TRANS_STMT_PREPARE ||
		   ((TransactionStmt *) stmt)->kind == TRANS_STMT_ROLLBACK ||
		   ((TransactionStmt *) stmt)->kind == TRANS_STMT_ROLLBACK_TO)))
		ereport(ERROR,
				(errcode(ERRCODE_IN_FAILED_SQL_TRANSACTION),
				 errmsg("current transaction is aborted, "
						"commands ignored until end of transaction block")));
}

/* Make ready for the rows of a statement; false: it returns none. */
static bool
begin_receiving(const SupInput *input, Node *stmt, TupleDesc columns, Receiver *receiver)
{
	if (columns != NULL)
	{
		check_columns(columns, input);
		memset(receiver, 0, sizeof(*receiver));
		receiver->pub.receiveSlot = receiver_receive;
		receiver->pub.rStartup = receiver_startup;
		receiver->pub.rShutdown = receiver_shutdown;
		receiver->pub.rDestroy = receiver_destroy;
		receiver->pub.mydest = DestTuplestore;
		return true;
	}
	if (input->ncolumns >= 0 && !refers_to_nothing(stmt))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("command returns no rows"),
				 errdetail("The rows are those of its last statement that may return any, and this one, CALL or EXECUTE, returned none."),
				 errhint("Put the statement whose rows are wanted last.")));
	return false;
}

/* A statement has been run. */
static void
end_statement(Node *stmt, bool last, bool implicit_block)
{
	if (last)
	{
		if (implicit_block)
			EndImplicitTransactionBlock();

		finish_xact_command();

		/* Nobody could go on with what it leaves open. */
		if (IsTransactionBlock() && in_block == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
					 errmsg("command left a transaction block open"),
					 errdetail("It was rolled back."),
					 errhint("End the command with COMMIT.")));
	}
	else if (IsA(stmt, TransactionStmt))
		finish_xact_command();
	else
	{
		CommandCounterIncrement();
		if (get_timeout_active(STATEMENT_TIMEOUT))
			disable_timeout(STATEMENT_TIMEOUT, false);
	}
}

/* Run one of them, as exec_simple_query() would. */
static void
run_statement(const SupInput *input, RawStmt *parsetree, bool wants_rows, bool last,
			  bool implicit_block, char *tag)
{
	const char *command = (const char *) (input + 1);
	ErrorContextCallback params_callback;
	ParamsErrorCbData params_data;
	bool		snapshot_set = false;
	MemoryContext stmt_context = NULL;
	CommandTag	command_tag = CreateCommandTag(parsetree->stmt);
	ParamListInfo params = NULL;
	List	   *plans;
	Portal		portal;
	Receiver	receiver;
	DestReceiver *dest = None_Receiver;
	QueryCompletion qc;
	MemoryContext oldcontext;

	pgstat_report_query_id(0, true);

	check_not_aborted(parsetree->stmt);
	start_xact_command();
	if (implicit_block)
		BeginImplicitTransactionBlock();
	CHECK_FOR_INTERRUPTS();

	if (analyze_requires_snapshot(parsetree))
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		snapshot_set = true;
	}

	/* Plans must outlive a COMMIT in the command. */
	if (!last)
	{
		stmt_context = AllocSetContextCreate(MessageContext, "supervisor statement",
											 ALLOCSET_DEFAULT_SIZES);
		oldcontext = MemoryContextSwitchTo(stmt_context);
	}
	else
		oldcontext = MemoryContextSwitchTo(MessageContext);

	if (input->nparams >= 0)
	{
		int			ntypes = 0;
		Oid		   *types = NULL;

		plans = pg_analyze_and_rewrite_varparams(parsetree, command, &types, &ntypes, NULL);
		params = convert_params(input->nparams, sup_input_params(input), ntypes, types);
		params_callback.callback = ParamsErrorCallback;
		params_callback.arg = &params_data;
		params_callback.previous = error_context_stack;
		params_data.portalName = "";
		params_data.params = params;
		error_context_stack = &params_callback;
	}
	else
		plans = pg_analyze_and_rewrite_fixedparams(parsetree, command, NULL, 0, NULL);
	plans = pg_plan_queries(plans, command, CURSOR_OPT_PARALLEL_OK, params);

	if (snapshot_set)
		PopActiveSnapshot();
	CHECK_FOR_INTERRUPTS();

	portal = CreatePortal("", true, true);
	portal->visible = false;
	PortalDefineQuery(portal, NULL, command, command_tag, plans, NULL);
	PortalStart(portal, params, 0, InvalidSnapshot);

	if (wants_rows && begin_receiving(input, parsetree->stmt, portal->tupDesc, &receiver))
		dest = &receiver.pub;
	else if (rows_to != NULL && portal->tupDesc != NULL)
		dest = rows_to;
	MemoryContextSwitchTo(oldcontext);

	(void) sup_portal_run(portal, dest, &qc);
	PortalDrop(portal, false);
	if (dest == &receiver.pub)
		sup_out_settle();

	end_statement(parsetree->stmt, last, implicit_block);
	if (input->nparams >= 0)
		error_context_stack = params_callback.previous;
	sup_completion_tag(tag, &qc);
	if (stmt_context)
		MemoryContextDelete(stmt_context);
}

/* The command has been run: a line for the log, if its duration is to be told. */
static void
log_end(const SupInput *input, List *parsetrees, bool was_logged)
{
	char		msec_str[32];

	switch (check_log_duration(msec_str, was_logged))
	{
		case 1:
			ereport(LOG,
					(errmsg("duration: %s ms", msec_str), errhidestmt(true)));
			break;
		case 2:
			ereport(LOG,
					(errmsg("duration: %s ms  statement: %s", msec_str, (const char *) (input + 1)),
					 errhidestmt(true), errdetail_statement(input, parsetrees)));
			break;
	}
}

/*
 * The timeout is for the whole command; statement_timeout begins again with
 * each of its statements, as it does for a client.
 */
void
sup_exec(const SupInput *input, bool wants_rows, const SupLimits *limits,
		 const SupBlock *block, DestReceiver *rows, char *tag)
{
	static TimeoutId timeout_id = MAX_TIMEOUTS;
	ErrorContextCallback callback;
	bool		was_logged;
	bool		with_usage = log_statement_stats;	/* also if the command
													 * sets it */
	List	   *parsetrees;
	ListCell   *lc;
	RawStmt    *row_statement;

	if (with_usage)
		ResetUsage();
	timed_out = false;
	callback.callback = cancel_error_callback;
	callback.arg = unconstify(SupLimits *, limits);
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	if (limits->timeout > 0)
	{
		if (timeout_id == MAX_TIMEOUTS)
			timeout_id = RegisterTimeout(USER_TIMEOUT, timeout_handler);
		enable_timeout_after(timeout_id, limits->timeout);
	}

	xact_started = true;		/* by the caller */
	in_block = block;
	rows_to = rows;
	if (block != NULL)
	{
		BeginTransactionBlock();
		CommitTransactionCommand();
		StartTransactionCommand();
	}
	start_xact_command();
	parsetrees = parse_command(input, wants_rows, &row_statement, &was_logged);
	foreach(lc, parsetrees)
	{
		RawStmt    *parsetree = lfirst_node(RawStmt, lc);

		run_statement(input, parsetree, parsetree == row_statement, lnext(parsetrees, lc) == NULL,
					  list_length(parsetrees) > 1, tag);
	}

	if (block != NULL)
	{
		start_xact_command();
		block->settle(block->arg, tag);
		if (!EndTransactionBlock(false))
			elog(ERROR, "transaction of a job has ended");
		finish_xact_command();
	}

	/* It has committed: a cancel comes too late. */
	HOLD_CANCEL_INTERRUPTS();
	log_end(input, parsetrees, was_logged);
	if (with_usage)
		ShowUsage("QUERY STATISTICS");
	RESUME_CANCEL_INTERRUPTS();

	if (limits->timeout > 0)
		disable_timeout(timeout_id, false);
	error_context_stack = callback.previous;
}
